#include "node/decode.h"

bool decode_is_media_type(struct bytes header, const char *type)
{
    const uint8_t *semicolon = header.len == 0 ? NULL : memchr(header.ptr, ';', header.len);
    size_t len = semicolon == NULL ? header.len : (size_t)(semicolon - header.ptr);
    return bytes_is_nocase(bytes_trim(bytes_of(header.ptr, len)), type);
}

enum err decode_consistency(struct bytes *query, struct arena *arena, bool *out_local, struct field_errors *errors)
{
    static const char key[] = "consistency=";
    struct bytes left = *query;
    struct buf rest = {0};
    enum err err = OK;
    if (left.len == 0 || memmem(left.ptr, left.len, key, sizeof key - 1) == NULL) {
        return OK;
    }
    while (left.len > 0) {
        const uint8_t *amp = memchr(left.ptr, '&', left.len);
        size_t len = amp == NULL ? left.len : (size_t)(amp - left.ptr);
        struct bytes pair = bytes_of(left.ptr, len);
        if (bytes_start_with(pair, bytes_str(key))) {
            struct bytes value = bytes_of(pair.ptr + sizeof key - 1, pair.len - (sizeof key - 1));
            *out_local = bytes_is(value, "local");
            if (!*out_local && !bytes_is(value, "linearizable")) {
                field_errors_add(errors, arena, "?consistency", "not_a_choice", "linearizable or local");
                err = ERR_INVALID_FIELDS;
            }
        } else {
            buf_add_bytes(&rest, pair);
            buf_add_char(&rest, '&');
        }
        left = bytes_of(left.ptr + len + (amp != NULL), left.len - len - (amp != NULL));
    }
    *query = arena_copy(arena, buf_bytes(&rest));
    buf_free(&rest);
    return err;
}

#include "node/etag.h"

#include <stdio.h>
#include <stdlib.h>

enum err etag_parse(struct bytes tag, uint64_t *out_version)
{
    char *end = NULL;
    if (tag.ptr == NULL || bytes_is(tag, "*")) {
        return OK;
    }
    char text[32] = "", canonical[32];
    if (tag.len < 3 || tag.len > 18 || tag.ptr[0] != '"' || tag.ptr[tag.len - 1] != '"') {
        return ERR_PRECONDITION_FAILED; /* weak, a list, or none of ours: matches nothing */
    }
    memcpy(text, tag.ptr + 1, tag.len - 2);
    *out_version = strtoull(text, &end, 16);
    (void)snprintf(canonical, sizeof canonical, "%llx", (unsigned long long)*out_version);
    bool ours = strcmp(text, canonical) == 0 && *out_version > 0 && *out_version <= INT64_MAX;
    return ours ? OK : ERR_PRECONDITION_FAILED;
}

static bool matches(struct bytes sent, struct bytes tag)
{
    return sent.len > 0 && (bytes_is(sent, "*") || memmem(sent.ptr, sent.len, tag.ptr, tag.len) != NULL);
}

bool etag_add(struct buf *headers, uint64_t version, struct bytes if_none_match)
{
    static const char hex[] = "0123456789abcdef";
    char text[18];
    size_t at = sizeof text;
    text[--at] = '"';
    do {
        text[--at] = hex[version & 15];
        version >>= 4;
    } while (version > 0);
    text[--at] = '"';
    struct bytes tag = bytes_of(text + at, sizeof text - at);
    buf_add_lit(headers, "ETag: ");
    buf_add_bytes(headers, tag);
    buf_add_lit(headers, "\r\n");
    return matches(if_none_match, tag);
}

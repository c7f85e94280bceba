/* Messages: any bytes as a body come back as they were, from the row and from JSON; rows and commands that are not
 * whole are refused. */
#include <jansson.h>

#include "actors/queue/client.h"
#include "node/base/text.h"
#include "tests/fuzz/fuzz.h"

static void check_json(const struct message *message)
{
    struct buf out = {0};
    size_t len, cap = message->body.len + 3;
    uint8_t *body = mem_alloc(cap);
    json_message(&out, 3, message, NULL);
    json_t *json = json_loadb((const char *)out.ptr, out.len, JSON_ALLOW_NUL, NULL);
    CHECK(json != NULL);
    const json_t *text = json_object_get(json, "body");
    struct bytes given = bytes_of(json_string_value(text), json_string_length(text));
    if ((message->flags & MESSAGE_BASE64) != 0) {
        CHECK(text_base64_decode(given, body, cap, &len) && bytes_eq(bytes_of(body, len), message->body));
    } else {
        CHECK(bytes_eq(given, message->body));
    }
    free(body);
    json_decref(json);
    buf_free(&out);
}

static void check_message(struct bytes input)
{
    struct message message = {.priority = (uint32_t)fuzz_take(&input, 4), .published_at = 1}, back;
    struct bytes key = bytes_of(input.ptr, input.len > 8 ? 8 : 0);
    struct buf row = {0};
    message.body = input;
    bool text = text_utf8_prefix(input) == input.len;
    message.flags = text ? 0 : MESSAGE_BASE64;
    message.key = text_utf8_prefix(key) == key.len ? key : BYTES_NONE;
    message_add(&row, &message);
    CHECK(message_read(buf_bytes(&row), &back) == OK);
    CHECK(bytes_eq(back.body, message.body) && bytes_eq(back.key, message.key) && back.priority == message.priority);
    CHECK(message_read(bytes_of(row.ptr, row.len - 1), &back) != OK);
    check_json(&message);
    buf_free(&row);
}

static void check_rows(struct bytes input)
{
    struct message message;
    struct publish_head head;
    struct settle_one one;
    struct bytes row, rest = input;
    if (message_read(input, &message) == OK) {
        CHECK(message.body.ptr + message.body.len == input.ptr + input.len);
    }
    while (publish_next(&rest, &head, &row)) {
        CHECK(row.ptr >= input.ptr && row.ptr + row.len <= input.ptr + input.len);
    }
    rest = input;
    while (settle_next(&rest, &one, &row)) {
        CHECK(row.ptr >= input.ptr && row.ptr + row.len <= input.ptr + input.len);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    check_rows(bytes_of(data, len));
    check_message(bytes_of(data, len));
    return 0;
}

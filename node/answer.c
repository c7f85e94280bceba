#include "node/answer.h"

#include "node/base/json_text.h"

enum err answer_list(struct buf *body, const struct reply *reply)
{
    struct bytes rest = buf_bytes(&reply->body);
    bool first = true;
    buf_add_lit(body, "{\"items\":[");
    while (rest.len > 0) {
        uint32_t len;
        CHECK(rest.len >= sizeof len);
        memcpy(&len, rest.ptr, sizeof len);
        if (!first) {
            buf_add_char(body, ',');
        }
        first = false;
        TRY(field_json_from_pack(body, reply->fields, bytes_of(rest.ptr + sizeof len, len)));
        rest = bytes_of(rest.ptr + sizeof len + len, rest.len - sizeof len - len);
    }
    buf_add_lit(body, "],\"next_cursor\":");
    if (reply->cursor.len == 0) {
        buf_add_lit(body, "null}");
        return OK;
    }
    json_text_add(body, buf_bytes(&reply->cursor));
    buf_add_char(body, '}');
    return OK;
}

void answer_link(struct buf *headers, const struct http_request *http, struct bytes cursor)
{
    struct bytes query = http->query;
    buf_add_lit(headers, "Link: <");
    buf_add_bytes(headers, http->path);
    buf_add_char(headers, '?');
    while (query.len > 0) {
        const uint8_t *amp = memchr(query.ptr, '&', query.len);
        size_t len = amp == NULL ? query.len : (size_t)(amp - query.ptr);
        if (len > 0 && !bytes_start_with(query, BYTES_LIT("cursor="))) {
            buf_add(headers, query.ptr, len);
            buf_add_char(headers, '&');
        }
        query = bytes_of(query.ptr + len + (amp != NULL), query.len - len - (amp != NULL));
    }
    buf_add_lit(headers, "cursor=");
    for (size_t i = 0; i < cursor.len; i++) {
        uint8_t c = cursor.ptr[i];
        bool plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '-' || c == '_';
        if (plain) {
            buf_add_char(headers, (char)c);
        } else {
            buf_printf(headers, "%%%02X", (unsigned)c);
        }
    }
    buf_add_lit(headers, ">; rel=\"next\"\r\n");
}

void answer_location(struct buf *headers, const struct http_request *http, struct id id)
{
    char text[ID_TEXT_BYTES];
    id_format(id, text);
    buf_add_lit(headers, "Location: ");
    buf_add_bytes(headers, http->path);
    buf_add_char(headers, '/');
    buf_add(headers, text, sizeof text);
    buf_add_lit(headers, "\r\n");
}

static void add_errors(struct buf *out, const struct field_errors *errors)
{
    buf_add_lit(out, ",\"errors\":[");
    for (size_t i = 0; i < errors->len; i++) {
        const struct field_error *row = &errors->rows[i];
        buf_printf(out, "%s{\"pointer\":", i > 0 ? "," : "");
        json_text_add_safe(out, bytes_str(row->pointer));
        buf_printf(out, ",\"code\":\"%s\",\"detail\":\"%s\"}", row->code, row->detail);
    }
    buf_add_char(out, ']');
}

void answer_problem(struct buf *body, enum err err, const char *detail, const char *request_id,
                    const struct field_errors *errors)
{
    buf_printf(body, "{\"type\":\"urn:belfry:problem:%s\",\"title\":\"%s\",\"status\":%d,\"detail\":", err_code(err),
               err_title(err), err_status(err));
    json_text_add_safe(body, bytes_str(detail));
    buf_printf(body, ",\"code\":\"%s\",\"request_id\":", err_code(err));
    json_text_add_safe(body, bytes_str(request_id));
    buf_printf(body, ",\"retryable\":%s", err_retryable(err) ? "true" : "false");
    if (errors != NULL) {
        add_errors(body, errors);
    }
    buf_add_char(body, '}');
}

void answer_allow(struct buf *out, unsigned allowed)
{
    static const enum method methods[] = {METHOD_GET,   METHOD_HEAD,   METHOD_POST,   METHOD_PUT,
                                          METHOD_PATCH, METHOD_DELETE, METHOD_OPTIONS};
    allowed |= 1U << METHOD_OPTIONS;
    allowed |= (allowed & 1U << METHOD_GET) != 0 ? 1U << METHOD_HEAD : 0;
    bool first = true;
    buf_add_lit(out, "Allow: ");
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        if ((allowed & 1U << methods[i]) != 0) {
            buf_printf(out, "%s%s", first ? "" : ", ", http_method_name(methods[i]));
            first = false;
        }
    }
    buf_add_lit(out, "\r\n");
}

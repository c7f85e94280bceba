/* Every expected failure of belfry: one list gives the C name, the HTTP status,
 * the stable `code` of the problem document (RFC 9457), its title and whether
 * the same request may succeed later. Codes are never renamed; the numbers are in logs and between
 * nodes, so new ones come last. */
#ifndef BELFRY_BASE_ERR_H
#define BELFRY_BASE_ERR_H

#include <stdbool.h>

#define ERR_LIST(X)                                                                                                    \
    X(ERR_BAD_REQUEST, 400, "bad_request", "The request is malformed", false)                                          \
    X(ERR_INVALID_JSON, 400, "invalid_json", "The body is not valid JSON", false)                                      \
    X(ERR_INVALID_CURSOR, 400, "invalid_cursor", "The cursor is not valid", false)                                     \
    X(ERR_UNAUTHORIZED, 401, "unauthorized", "A valid access token is required", false)                                \
    X(ERR_INVALID_CREDENTIALS, 401, "invalid_credentials", "Login or password is wrong", false)                        \
    X(ERR_INVALID_REFRESH_TOKEN, 401, "invalid_refresh_token", "The refresh token is not valid", false)                \
    X(ERR_FORBIDDEN, 403, "forbidden", "Not allowed", false)                                                           \
    X(ERR_NOT_FOUND, 404, "not_found", "No such resource", false)                                                      \
    X(ERR_METHOD_NOT_ALLOWED, 405, "method_not_allowed", "The resource has no such method", false)                     \
    X(ERR_REQUEST_TIMEOUT, 408, "request_timeout", "The request came too slowly", true)                                \
    X(ERR_CONFLICT, 409, "conflict", "The request conflicts with the present state", false)                            \
    X(ERR_USERNAME_TAKEN, 409, "username_taken", "The username is taken", false)                                       \
    X(ERR_EMAIL_TAKEN, 409, "email_taken", "The email address is taken", false)                                        \
    X(ERR_STALE_REQUEST, 409, "stale_request", "The request is older than the retry window", false)                    \
    X(ERR_PRECONDITION_FAILED, 412, "precondition_failed", "If-Match does not hold", false)                            \
    X(ERR_TOO_LARGE, 413, "too_large", "The body is too large", false)                                                 \
    X(ERR_URI_TOO_LONG, 414, "uri_too_long", "The request target is too long", false)                                  \
    X(ERR_UNSUPPORTED_MEDIA_TYPE, 415, "unsupported_media_type", "The body has the wrong type", false)                 \
    X(ERR_EXPECTATION_FAILED, 417, "expectation_failed", "The expectation is not supported", false)                    \
    X(ERR_INVALID_FIELDS, 422, "invalid_fields", "Some fields are not valid", false)                                   \
    X(ERR_IDEMPOTENCY_KEY_REUSE, 422, "idempotency_key_reuse", "The idempotency key was used for another request",     \
      false)                                                                                                           \
    X(ERR_LIMIT_REACHED, 422, "limit_reached", "A limit of the account is reached", false)                             \
    X(ERR_HEADERS_TOO_LARGE, 431, "headers_too_large", "The header section is too large", false)                       \
    X(ERR_INTERNAL, 500, "internal", "Something went wrong here", true)                                                \
    X(ERR_NOT_IMPLEMENTED, 501, "not_implemented", "The method or coding is not supported", false)                     \
    X(ERR_OVERLOADED, 503, "overloaded", "Too much to do at the moment", true)                                         \
    X(ERR_NOT_LEADER, 503, "not_leader", "This node does not lead the partition", true)                                \
    X(ERR_NO_QUORUM, 503, "no_quorum", "No majority of nodes can be reached", true)                                    \
    X(ERR_READ_ONLY, 503, "read_only", "The node accepts no writes", true)                                             \
    X(ERR_SHUTTING_DOWN, 503, "shutting_down", "The node is stopping", true)                                           \
    X(ERR_TIMEOUT, 504, "timeout", "The answer did not come in time", true)                                            \
    X(ERR_HTTP_VERSION, 505, "http_version", "HTTP/1.0 and HTTP/1.1 are spoken here", false)                           \
    X(ERR_DISK_FULL, 507, "disk_full", "The disk is full", true)                                                       \
    X(ERR_IO, 500, "io", "Input or output failed", true)                                                               \
    X(ERR_CORRUPT, 500, "corrupt", "Stored data is damaged", false)                                                    \
    X(ERR_QUARANTINED, 503, "quarantined", "Data is damaged here: only ?consistency=local reads of what is whole",     \
      false)                                                                                                           \
    X(ERR_TOO_MANY_STREAMS, 429, "too_many_streams", "The account has too many event streams open on this node", true) \
    X(ERR_TOPIC_FULL, 409, "topic_full", "The topic holds as many messages as it may", true)

#define ERR_ENUM(name, status, code, title, retryable) name,
enum err { OK = 0, ERR_LIST(ERR_ENUM) ERR_COUNT };

int err_status(enum err err);
const char *err_code(enum err err);
const char *err_title(enum err err);
bool err_retryable(enum err err);

#endif

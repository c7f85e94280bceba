/* A byte for the method, then a target as the parser lets it through: routed, its parameters and its
 * query decoded by the table of the operation that was found. */
#include "node/router.h"
#include "tests/fuzz/fuzz.h"

static struct router *router;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    router = router_new();
    return 0;
}

static bool is_target(struct bytes text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] <= ' ' || text.ptr[i] >= 0x7f) {
            return false;
        }
    }
    return text.len <= LIMIT_TARGET_BYTES;
}

static void check_match(const struct route_match *match, enum method method, struct bytes path)
{
    CHECK(match->path_index < router_paths(router));
    CHECK((match->allowed != 0) == (match->path_index != 0));
    if (match->route == NULL) {
        return;
    }
    enum method wanted = method == METHOD_HEAD ? METHOD_GET : method;
    CHECK(match->route->method == wanted && (match->allowed & 1U << wanted) != 0);
    CHECK(match->route->index == match->path_index && (match->route->op != NULL) != (match->route->page != NULL));
    for (unsigned i = 0; i < ROUTE_PARAMS; i++) {
        struct bytes param = match->params[i], name = route_param_name(match->route->path, i);
        CHECK((param.ptr == NULL) == (name.ptr == NULL));
        CHECK(param.ptr == NULL || (param.len > 0 && param.ptr > path.ptr && name.len > 0));
        CHECK(param.len == 0 ||
              (param.ptr + param.len <= path.ptr + path.len && memchr(param.ptr, '/', param.len) == NULL));
    }
}

/* What was accepted is stored as msgpack and comes back the same. */
static void check_round(const struct op *op, const void *in, struct arena *arena)
{
    struct buf packed = {0}, again = {0};
    void *back = arena_zalloc(arena, op->in_size);
    field_pack(&packed, op->in, in);
    CHECK(field_unpack(op->in, buf_bytes(&packed), back) == OK);
    field_pack(&again, op->in, back);
    CHECK(bytes_eq(buf_bytes(&packed), buf_bytes(&again)));
    buf_free(&packed);
    buf_free(&again);
}

static void decode(const struct route_match *match, struct bytes query, struct arena *arena)
{
    static const struct field none[] = {FIELDS_END};
    const struct op *op = match->route->op;
    const struct field *fields = op->in != NULL ? op->in : none;
    struct field_errors errors = {0};
    void *in = arena_zalloc(arena, op->in_size > 0 ? op->in_size : sizeof(struct fieldset));
    for (unsigned i = 0; i < ROUTE_PARAMS && match->params[i].ptr != NULL; i++) {
        struct bytes name = route_param_name(op->path, i);
        if (field_decode_param(fields, name, match->params[i], arena, in, &errors) != OK) {
            return;
        }
    }
    CHECK(errors.len == 0);
    enum err err = field_decode_query(fields, query, arena, in, &errors);
    CHECK((err == OK) == (errors.len == 0) && errors.len <= FIELD_ERRORS_MAX);
    if (err == OK && op->in != NULL) {
        check_round(op, in, arena);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct bytes input = bytes_of(data, len);
    struct arena arena = {0};
    struct route_match match;
    enum method method = (enum method)(fuzz_take(&input, 1) % (METHOD_OTHER + 1));
    if (input.len == 0 || !is_target(input)) {
        return 0;
    }
    const uint8_t *mark = memchr(input.ptr, '?', input.len);
    struct bytes path = bytes_of(input.ptr, mark == NULL ? input.len : (size_t)(mark - input.ptr));
    struct bytes query = mark == NULL ? BYTES_NONE : bytes_of(mark + 1, input.len - path.len - 1);
    router_match(router, NULL, method, path, &match);
    check_match(&match, method, path);
    if (match.route != NULL && match.route->op != NULL) {
        decode(&match, query, &arena);
    }
    arena_close(&arena);
    return 0;
}

/* Items and parts of joined commands: what was put in comes out, and what is broken is seen. */
#include "actors/join.h"

#include "tests/support/test.h"

static struct caller caller_of(uint64_t n)
{
    return (struct caller){.account = id_make(1000, 1, n), .role = n % 2 == 0 ? ROLE_USER : ROLE_ADMIN};
}

static void test_items(void **state)
{
    static const char *const texts[] = {"", "a", "some more", ""};
    struct buf items = {0};
    size_t size = 0;
    (void)state;
    for (uint64_t i = 0; i < 4; i++) {
        struct caller caller = caller_of(i);
        joined_add(&items, &caller, bytes_str(texts[i]));
        size += joined_size(bytes_str(texts[i]));
    }
    assert_int_equal(items.len, size);
    assert_int_equal(joined_check(buf_bytes(&items)), OK);
    struct bytes rest = buf_bytes(&items), item;
    struct caller caller;
    for (uint64_t i = 0; i < 4; i++) {
        assert_true(joined_next(&rest, &caller, &item));
        assert_true(id_eq(caller.account, caller_of(i).account));
        assert_int_equal(caller.role, caller_of(i).role);
        assert_true(bytes_is(item, texts[i]));
    }
    assert_false(joined_next(&rest, &caller, &item));
    buf_free(&items);
}

static void test_broken(void **state)
{
    struct buf items = {0};
    struct caller caller = caller_of(2);
    (void)state;
    joined_add(&items, &caller, BYTES_LIT("one"));
    size_t one = items.len;
    joined_add(&items, &caller, BYTES_LIT("two"));
    for (size_t len = 0; len < items.len; len++) {
        /* A copy of its own size: a look behind its end is found. */
        uint8_t *copy = mem_copy(items.ptr, len);
        assert_int_equal(joined_check(bytes_of(copy, len)), len == one ? OK : ERR_CORRUPT);
        free(copy);
    }
    items.ptr[16] = ROLE_ADMIN + 1;
    assert_int_equal(joined_check(buf_bytes(&items)), ERR_CORRUPT);
    items.ptr[16] = ROLE_USER;
    assert_int_equal(joined_check(buf_bytes(&items)), OK);
    memset(items.ptr + 17, 0xff, 4);
    assert_int_equal(joined_check(buf_bytes(&items)), ERR_CORRUPT);
    buf_free(&items);
}

static void test_parts(void **state)
{
    struct reply reply = {0};
    (void)state;
    joined_answer(&reply, OK, BYTES_LIT("first"));
    joined_answer(&reply, ERR_CONFLICT, BYTES_NONE);
    struct bytes rest = buf_bytes(&reply.body), part;
    enum err err;
    assert_true(joined_part(&rest, &err, &part));
    assert_true(err == OK && bytes_is(part, "first"));
    assert_true(joined_part(&rest, &err, &part));
    assert_true(err == ERR_CONFLICT && part.len == 0);
    assert_false(joined_part(&rest, &err, &part));
    for (size_t len = 0; len < 13; len++) {
        rest = bytes_of(reply.body.ptr, len);
        assert_false(joined_part(&rest, &err, &part));
    }
    reply.body.ptr[3] = 1; /* no such error */
    rest = buf_bytes(&reply.body);
    assert_false(joined_part(&rest, &err, &part));
    reply_close(&reply);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_items), cmocka_unit_test(test_broken),
                                       cmocka_unit_test(test_parts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

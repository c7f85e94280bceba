/* Lines of beanstalkd's protocol in pieces, and the numbers of jobs. */
#include "actors/facades/beanstalkd_script.h"
#include "tests/support/test.h"

/* What becomes of bytes: "verb ", "refusal" or the body, one behind another; fed in steps. */
static struct buf play(struct bytes all, size_t step)
{
    struct tube_session session;
    struct buf out = {0};
    size_t at = 0, have = 0;
    tube_session_init(&session);
    while (have < all.len) {
        have = have + step < all.len ? have + step : all.len;
        for (bool more = true; more;) {
            struct tube_command command = {0};
            size_t used = 0;
            struct bytes in = bytes_of(all.ptr + at, have - at);
            enum tube_parse parsed = tube_parse(&session, in, &command, &used);
            assert_true(used <= in.len);
            more = parsed != TUBE_MORE && used > 0;
            at += used;
            if (parsed == TUBE_COMMAND) {
                buf_add_str(&out, tube_verb_names[command.verb]);
                buf_add_char(&out, '[');
                buf_add_bytes(&out, command.body);
                buf_add_lit(&out, "] ");
            } else if (parsed == TUBE_REFUSED) {
                buf_add_str(&out, session.refusal);
            }
        }
    }
    tube_session_close(&session);
    return out;
}

static void expect(const char *in, const char *out)
{
    for (size_t step = 1; step < 40; step += 6) {
        struct buf found = play(bytes_str(in), step);
        buf_add_char(&found, 0);
        assert_string_equal((const char *)found.ptr, out);
        buf_free(&found);
    }
}

static void test_commands_in_pieces_are_the_same(void **state)
{
    (void)state;
    expect("put 1 0 60 3\r\na\r\n\r\nreserve\r\n", "put[a\r\n] reserve[] ");
    expect("put 1 0 60 2\r\nabc\r\nreserve\r\n", "EXPECTED_CRLF\r\nUNKNOWN_COMMAND\r\n");
    expect("put 1 0 60 2000000 x\r\n", "");
    expect("put 4294967296 0 1 0\r\n", "BAD_FORMAT\r\n");
    expect("kick 9x\r\nkick -1\r\nreserve-with-timeout x\r\nreserve-with-timeout -1\r\n",
           "kick[] kick[] reserve-with-timeout[] reserve[] ");
    expect("use a b\r\nuse -a\r\nuse a\r\n\r\n", "BAD_FORMAT\r\nBAD_FORMAT\r\nuse[] UNKNOWN_COMMAND\r\n");
}

static void test_long_lines_and_large_bodies_are_thrown_away(void **state)
{
    struct buf in = {0};
    (void)state;
    for (int i = 0; i < 1000; i++) {
        buf_add_char(&in, 'x');
    }
    buf_add_lit(&in, "\r\nquit\r\nput 0 0 1 1048577\r\n");
    for (int i = 0; i < LIMIT_MESSAGE_BYTES + 3; i++) {
        buf_add_char(&in, 'y');
    }
    buf_add_lit(&in, "stats\r\n");
    for (size_t step = 1; step < 3000; step = step * 7 + 1) {
        struct buf found = play(buf_bytes(&in), step);
        buf_add_char(&found, 0);
        assert_string_equal((const char *)found.ptr, "BAD_FORMAT\r\nquit[] JOB_TOO_BIG\r\nstats[] ");
        buf_free(&found);
    }
    buf_free(&in);
}

static void test_a_jobs_id_says_where_it_is(void **state)
{
    static const uint64_t ordinals[] = {1, 15, 16, 255, 256, 70000, UINT32_MAX};
    static const unsigned all[] = {1, 2, 16, 4095};
    struct job_name found;
    (void)state;
    for (size_t o = 0; o < ARRAY_LEN(ordinals); o++) {
        for (size_t p = 0; p < ARRAY_LEN(all); p++) {
            uint64_t before = 0;
            for (uint64_t message = 1; message < 1000000; message = message * 3 + 1) {
                const struct job_name name = {1 + (unsigned)(message % all[p]), ordinals[o], message};
                uint64_t id = job_id(name, all[p]);
                if (id == 0 && ordinals[o] == UINT32_MAX && message > 30000) {
                    break; /* no room: a partition has 4 thousand million topics */
                }
                assert_true(id > before && id <= INT64_MAX);
                before = id;
                assert_true(job_id_parse(id, all[p], &found));
                assert_true(found.partition == name.partition && found.ordinal == name.ordinal &&
                            found.message == message);
            }
        }
    }
    assert_int_equal(job_id((struct job_name){1, (uint64_t)UINT32_MAX + 1, 1}, 16), 0);
    assert_int_equal(job_id((struct job_name){1, 1, INT64_MAX / 128}, 16), 0);
    assert_false(job_id_parse(0, 16, &found));
    assert_false(job_id_parse(UINT64_MAX, 16, &found));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_commands_in_pieces_are_the_same),
                                       cmocka_unit_test(test_long_lines_and_large_bodies_are_thrown_away),
                                       cmocka_unit_test(test_a_jobs_id_says_where_it_is)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

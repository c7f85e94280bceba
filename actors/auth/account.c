/* The account row and what happens to it. */
#include "actors/auth/auth.h"
#include "node/limits.h"

const char *const account_roles[] = {"user", "admin", NULL};

const struct field account_fields[] = {FIELD_ID(1, account, id, 0),
                                       FIELD_STRING(2, account, username, 0, 0, 0),
                                       FIELD_STRING(3, account, email, 0, 0, 0),
                                       FIELD_STRING(4, account, first_name, 0, 0, 0),
                                       FIELD_STRING(5, account, last_name, 0, 0, 0),
                                       FIELD_ENUM(6, account, role, account_roles, 0),
                                       FIELD_TIME(7, account, created_at, 0),
                                       FIELD_TIME(8, account, updated_at, 0),
                                       FIELD_STRING(9, account, password, 0, 0, FIELD_HIDDEN),
                                       FIELD_BOOL(10, account, deleted, FIELD_HIDDEN),
                                       FIELD_INT(11, account, version, 0, INT64_MAX, FIELD_HIDDEN),
                                       FIELD_STRING(12, account, alias_name, 0, 0, FIELD_HIDDEN),
                                       FIELD_STRING(13, account, alias_username, 0, 0, FIELD_HIDDEN),
                                       FIELD_STRING(14, account, alias_email, 0, 0, FIELD_HIDDEN),
                                       FIELDS_END};

const struct field profile_fields[] = {
    FIELD_STRING(2, account, username, 0, 0, 0), FIELD_STRING(4, account, first_name, 0, 0, 0),
    FIELD_STRING(5, account, last_name, 0, 0, 0), FIELD_TIME(7, account, created_at, 0), FIELDS_END};

const struct field set_password_fields[] = {FIELD_STRING(1, set_password, old, 0, 0, 0),
                                            FIELD_STRING(2, set_password, password, 0, 0, 0),
                                            FIELD_ID(3, set_password, keep, 0), FIELDS_END};
const struct field set_role_fields[] = {FIELD_ENUM(1, set_role, role, account_roles, 0), FIELDS_END};
const struct field account_patch_fields[] = {
    FIELD_STRING(1, account_patch, first_name, 0, LIMIT_NAME_CHARS, FIELD_NULLABLE),
    FIELD_STRING(2, account_patch, last_name, 0, LIMIT_NAME_CHARS, FIELD_NULLABLE), FIELDS_END};
const struct field create_fields[] = {FIELD_STRING(1, create, username, 0, 0, 0),
                                      FIELD_STRING(2, create, email, 0, 0, 0),
                                      FIELD_STRING(3, create, first_name, 0, 0, 0),
                                      FIELD_STRING(4, create, last_name, 0, 0, 0),
                                      FIELD_STRING(5, create, password, 0, 0, 0),
                                      FIELD_OBJECT(6, create, session, new_session_fields, 0),
                                      FIELD_BLOB(7, create, name, 0),
                                      FIELD_STRING(8, create, alias_name, 0, 0, 0),
                                      FIELD_STRING(9, create, alias_username, 0, 0, 0),
                                      FIELD_STRING(10, create, alias_email, 0, 0, 0),
                                      FIELD_BLOB(11, create, username_key, 0),
                                      FIELD_BLOB(12, create, email_key, 0),
                                      FIELDS_END};
const struct field created_fields[] = {FIELD_ID(1, created, session, 0), FIELD_BLOB(2, created, account, 0),
                                       FIELDS_END};
const struct field settled_fields[] = {FIELD_BOOL(1, settled, live, 0), FIELDS_END};
const struct field forget_fields[] = {FIELD_ID(1, forget, account, 0), FIELDS_END};
const struct field forgot_fields[] = {FIELD_BOOL(1, forgot, more, 0), FIELDS_END};

struct address address_of_account(const struct id *id)
{
    return (struct address){id_partition(*id), id_bytes(id)};
}

static enum err load(struct rows *rows, struct id id, struct account *out)
{
    struct bytes value;
    TRY(rows_get(rows, TABLE_ACCOUNT, id_bytes(&id), &value));
    return field_unpack(account_fields, value, out);
}

enum err account_find(struct rows *rows, struct id id, struct account *out)
{
    TRY(load(rows, id, out));
    return out->deleted ? ERR_NOT_FOUND : OK;
}

static enum err key_id(struct bytes key, struct id *out)
{
    if (key.len != sizeof *out) {
        return ERR_BAD_REQUEST;
    }
    memcpy(out->b, key.ptr, key.len);
    return OK;
}

/* The row as bytes in the turn's arena: what account_find gave points into the map. */
static enum err load_own(struct turn *turn, struct account *out)
{
    struct id id;
    struct bytes value;
    TRY(key_id(turn->key, &id));
    TRY(rows_get(turn->rows, TABLE_ACCOUNT, turn->key, &value));
    TRY(field_unpack(account_fields, arena_copy(turn->arena, value), out));
    return out->deleted ? ERR_NOT_FOUND : OK;
}

static enum err store(struct turn *turn, struct account *account, struct buf *out_packed)
{
    FIELD_SET(account_fields, account, struct account, updated_at, turn->now_ms);
    FIELD_SET(account_fields, account, struct account, version, (int64_t)turn->version);
    field_pack(out_packed, account_fields, account);
    return rows_put(turn->rows, TABLE_ACCOUNT, id_bytes(&account->id), buf_bytes(out_packed));
}

static void answer_created(struct reply *reply, struct id session, struct bytes packed)
{
    struct created out = {0};
    if (!id_is_none(session)) {
        FIELD_SET(created_fields, &out, struct created, session, session);
    }
    FIELD_SET(created_fields, &out, struct created, account, packed);
    reply_struct(reply, created_fields, &out);
}

#define COPY_TEXT(account, in, member)                                                \
    do {                                                                              \
        if (FIELD_HAS(create_fields, in, struct create, member)) {                    \
            FIELD_SET(account_fields, account, struct account, member, (in)->member); \
        }                                                                             \
    } while (0)

static void copy_texts(struct account *account, const struct create *in)
{
    COPY_TEXT(account, in, username);
    COPY_TEXT(account, in, email);
    COPY_TEXT(account, in, password);
    COPY_TEXT(account, in, first_name);
    COPY_TEXT(account, in, last_name);
    COPY_TEXT(account, in, alias_name);
    COPY_TEXT(account, in, alias_username);
    COPY_TEXT(account, in, alias_email);
}

/* The names that live in the account's own partition. */
static enum err put_names(struct turn *turn, const struct create *in, struct id id)
{
    TRY(in->name.len == 0 ? OK : name_put(turn, in->name, id));
    TRY(in->username_key.len == 0 ? OK : alias_put(turn->rows, in->username_key, id));
    return in->email_key.len == 0 ? OK : alias_put(turn->rows, in->email_key, id);
}

enum err account_create(struct turn *turn, const void *raw, struct reply *reply)
{
    const struct create *in = raw;
    struct account account = {0};
    struct bytes value;
    struct id id, session = {{0}};
    TRY(key_id(turn->key, &id));
    enum err err = rows_get(turn->rows, TABLE_ABORTED, turn->key, &value);
    if (err != ERR_NOT_FOUND) {
        return err == OK ? ERR_CONFLICT : err; /* the sweeper was faster: the names are gone */
    }
    err = rows_get(turn->rows, TABLE_ACCOUNT, turn->key, &value);
    if (err != ERR_NOT_FOUND) {
        return err == OK ? ERR_CONFLICT : err;
    }
    FIELD_SET(account_fields, &account, struct account, id, id);
    FIELD_SET(account_fields, &account, struct account, role, 0);
    FIELD_SET(account_fields, &account, struct account, created_at, id_ms(id)); /* lists are in the order of ids */
    copy_texts(&account, in);
    struct buf packed = {0};
    err = put_names(turn, in, id);
    if (err == OK) {
        err = store(turn, &account, &packed);
    }
    if (err == OK && FIELD_HAS(create_fields, in, struct create, session)) {
        err = session_put_new(turn, id, &in->session, &session);
    }
    if (err == OK) {
        answer_created(reply, session, buf_bytes(&packed));
    }
    buf_free(&packed);
    return err;
}

static enum err forget_aborts(struct turn *turn)
{
    /* Keys start with the time of the id, so the oldest stand first. A create that could still come
     * carries a request id that is refused as too old by then. */
    for (int i = 0; i < LIMIT_EXPIRE_STEP; i++) {
        struct bytes key, value;
        struct id id;
        enum err err = rows_ceil(turn->rows, TABLE_ABORTED, BYTES_NONE, &key, &value);
        if (err == ERR_NOT_FOUND) {
            return OK;
        }
        TRY(err);
        TRY(key_id(key, &id));
        if (id_ms(id) > turn->now_ms - 4 * LIMIT_REQUEST_WINDOW_MS) {
            return OK;
        }
        TRY(rows_del(turn->rows, TABLE_ABORTED, id_bytes(&id)));
    }
    return OK;
}

/* Was the account made? If not, it never will be: that is written down before the answer. */
enum err account_settle(struct turn *turn, const void *raw, struct reply *reply)
{
    struct bytes value;
    struct settled out = {0};
    (void)raw;
    enum err err = rows_get(turn->rows, TABLE_ACCOUNT, turn->key, &value);
    if (err != OK && err != ERR_NOT_FOUND) {
        return err;
    }
    FIELD_SET(settled_fields, &out, struct settled, live, err == OK);
    reply_struct(reply, settled_fields, &out);
    if (err == OK) {
        return OK;
    }
    TRY(forget_aborts(turn));
    return rows_put(turn->rows, TABLE_ABORTED, turn->key, BYTES_NONE);
}

enum err account_update(struct turn *turn, const void *raw, struct reply *reply)
{
    const struct account_patch *in = raw;
    struct account account = {0};
    struct buf packed = {0};
    TRY(load_own(turn, &account));
    TRY(turn_check_version(turn, (uint64_t)account.version));
    if (FIELD_HAS(account_patch_fields, in, struct account_patch, first_name)) {
        FIELD_SET(account_fields, &account, struct account, first_name, in->first_name);
    } else if (FIELD_IS_NULL(account_patch_fields, in, struct account_patch, first_name)) {
        FIELD_CLEAR(account_fields, &account, struct account, first_name);
    }
    if (FIELD_HAS(account_patch_fields, in, struct account_patch, last_name)) {
        FIELD_SET(account_fields, &account, struct account, last_name, in->last_name);
    } else if (FIELD_IS_NULL(account_patch_fields, in, struct account_patch, last_name)) {
        FIELD_CLEAR(account_fields, &account, struct account, last_name);
    }
    enum err err = store(turn, &account, &packed);
    if (err == OK) {
        reply_record(reply, account_fields, buf_bytes(&packed), turn->version, TABLE_ACCOUNT, turn->key);
    }
    buf_free(&packed);
    return err;
}

enum err account_set_password(struct turn *turn, const void *raw, struct reply *reply)
{
    const struct set_password *in = raw;
    struct account account = {0};
    struct buf packed = {0};
    (void)reply;
    TRY(load_own(turn, &account));
    if (!bytes_eq(account.password, in->old)) {
        return ERR_CONFLICT; /* changed by somebody else in between */
    }
    TRY(session_end_all(turn, account.id, in->keep));
    FIELD_SET(account_fields, &account, struct account, password, in->password);
    enum err err = store(turn, &account, &packed);
    buf_free(&packed);
    return err;
}

enum err account_set_role(struct turn *turn, const void *raw, struct reply *reply)
{
    const struct set_role *in = raw;
    struct account account = {0};
    struct buf packed = {0};
    TRY(load_own(turn, &account));
    FIELD_SET(account_fields, &account, struct account, role, in->role);
    enum err err = store(turn, &account, &packed);
    if (err == OK) {
        reply_record(reply, account_fields, buf_bytes(&packed), turn->version, TABLE_ACCOUNT, turn->key);
    }
    buf_free(&packed);
    return err;
}

/* The row stays, marked, until all the account's data is gone: whoever finds it goes on. */
enum err account_mark_deleted(struct turn *turn, const void *raw, struct reply *reply)
{
    struct account account = {0};
    struct buf packed = {0};
    (void)raw;
    enum err err = load_own(turn, &account);
    if (err == ERR_NOT_FOUND && account.deleted) {
        err = OK; /* a repeat */
    }
    TRY(err);
    TRY(session_end_all(turn, account.id, (struct id){{0}}));
    FIELD_SET(account_fields, &account, struct account, deleted, true);
    FIELD_CLEAR(account_fields, &account, struct account, password);
    err = store(turn, &account, &packed);
    if (err == OK) {
        reply_struct(reply, account_fields, &account);
        err = rows_put(turn->rows, TABLE_DELETING, turn->key, BYTES_NONE);
    }
    buf_free(&packed);
    return err;
}

/* One bounded step of erasing, in any partition: every kind gives up what it holds there. */
enum err account_forget(struct turn *turn, const void *raw, struct reply *reply)
{
    const struct forget *in = raw;
    struct forgot out = {0};
    unsigned left = LIMIT_ERASE_STEP;
    for (size_t i = 0; kinds[i] != NULL && left > 0; i++) {
        unsigned erased = 0;
        if (kinds[i]->forget != NULL) {
            TRY(kinds[i]->forget(turn, in->account, left, &erased));
            left -= erased;
        }
    }
    FIELD_SET(forgot_fields, &out, struct forgot, more, left == 0);
    reply_struct(reply, forgot_fields, &out);
    return OK;
}

enum err account_remove(struct turn *turn, const void *raw, struct reply *reply)
{
    struct bytes value;
    (void)raw;
    (void)reply;
    enum err err = rows_get(turn->rows, TABLE_DELETING, turn->key, &value);
    if (err != OK) {
        return err == ERR_NOT_FOUND ? OK : err; /* a repeat */
    }
    TRY(rows_del(turn->rows, TABLE_DELETING, turn->key));
    err = rows_del(turn->rows, TABLE_ACCOUNT, turn->key);
    return err == ERR_NOT_FOUND ? OK : err; /* lost to damage, perhaps */
}

enum err account_mend(struct rows *rows)
{
    struct bytes key, value;
    uint8_t from[sizeof(struct id) + 1] = {0};
    size_t from_len = 0;
    for (;;) {
        struct account account = {0};
        struct id id;
        enum err err = rows_ceil(rows, TABLE_DELETING, bytes_of(from, from_len), &key, &value);
        if (err != OK) {
            return err == ERR_NOT_FOUND ? OK : err;
        }
        TRY(key_id(key, &id));
        memcpy(from, id.b, sizeof id.b);
        from_len = sizeof from;
        err = load(rows, id, &account);
        TRY(err == ERR_NOT_FOUND ? rows_del(rows, TABLE_DELETING, id_bytes(&id)) : err);
    }
}

bool account_find_deleting(struct rows *rows, int64_t now_ms, struct arena *arena, void *raw)
{
    struct forget *in = raw;
    struct bytes key, value;
    struct account account = {0};
    struct id id;
    (void)arena;
    if (rows_ceil(rows, TABLE_DELETING, BYTES_NONE, &key, &value) != OK || key_id(key, &id) != OK ||
        load(rows, id, &account) != OK || account.updated_at > now_ms - LIMIT_SAGA_SWEEP_MS) {
        return false;
    }
    FIELD_SET(forget_fields, in, struct forget, account, id);
    return true;
}

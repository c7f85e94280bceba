/* struct rows as a plain sorted list: the model that reducers are tested on, and that the real
 * implementation is compared with. */
#ifndef BELFRY_TESTS_SUPPORT_MODEL_ROWS_H
#define BELFRY_TESTS_SUPPORT_MODEL_ROWS_H

#include "node/base/rows.h"

struct model_row {
    uint8_t table;
    struct bytes key, value; /* malloc'd */
};

struct model_rows {
    struct rows rows;
    struct model_row *list;
    size_t len, cap;
    /* strict: what was lent, and is taken back */
    struct bytes *values;
    struct bytes lent_key;
    size_t values_len, values_cap;
};

void model_rows_init(struct model_rows *model);
/* Keys and values that are lent are spoilt and freed as soon as rows.h allows it: whoever looks at them later is found
 * out, by the address sanitizer at the latest. */
void model_rows_init_strict(struct model_rows *model);
void model_rows_close(struct model_rows *model);

#endif

/* Assertions that stay on in every build, and function attributes.
 * CHECK is for bugs of ours; expected failures are an enum err (err.h). */
#ifndef BELFRY_BASE_CHECK_H
#define BELFRY_BASE_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MUST_USE __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, first) __attribute__((format(printf, fmt, first)))
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

_Noreturn void check_failed(const char *cond, const char *file, int line);

/* Aborts the process with the broken condition when it does not hold. */
#define CHECK(cond) (LIKELY(cond) ? (void)0 : check_failed(#cond, __FILE__, __LINE__))

/* Returns an error of the called function to our caller; only where nothing is owned. */
#define TRY(call)                       \
    do {                                \
        enum err try_err_ = (call);     \
        if (UNLIKELY(try_err_ != OK)) { \
            return try_err_;            \
        }                               \
    } while (0)

#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

/* malloc and friends that abort when memory is gone; sizes are bounded before they get here. */
void *mem_alloc(size_t size) MUST_USE;
void *mem_zalloc(size_t size) MUST_USE;
void *mem_realloc(void *ptr, size_t size) MUST_USE;
void *mem_copy(const void *from, size_t len) MUST_USE;

#endif

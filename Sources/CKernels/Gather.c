#include "CKernels.h"

// Scattered rows of a large table: each row is a cache miss, so rows are requested ahead of their use.

// 8 rows of 256 bytes: 32 lines in flight, about what one core can have outstanding.
enum { AHEAD = 8, LINE = 64 };

void CKernels_prefetch(const float *row, size_t columns) {
    const char *start = (const char *)row;
    for (size_t byte = 0; byte < columns * sizeof(float); byte += LINE) __builtin_prefetch(start + byte);
}

#define GATHER(level, TARGET)                                                                                          \
    TARGET static void level##_gather_dot(const float *q, const float *base, size_t stride, size_t columns,            \
                                          const uint32_t *rows, size_t count, float *scores) {                         \
        _Pragma("clang fp reassociate(on)") for (size_t i = 0; i < count; i++) {                                       \
            if (i + AHEAD < count) CKernels_prefetch(base + rows[i + AHEAD] * stride, columns);                                 \
            const float *x = base + rows[i] * stride;                                                                  \
            float s = 0;                                                                                               \
            for (size_t j = 0; j < columns; j++) s += q[j] * x[j];                                                     \
            scores[i] = s;                                                                                             \
        }                                                                                                              \
    }                                                                                                                  \
    TARGET static void level##_gather_distance(const float *q, const float *base, size_t stride, size_t columns,       \
                                               const uint32_t *rows, size_t count, float *scores) {                    \
        _Pragma("clang fp reassociate(on)") for (size_t i = 0; i < count; i++) {                                       \
            if (i + AHEAD < count) CKernels_prefetch(base + rows[i + AHEAD] * stride, columns);                                 \
            const float *x = base + rows[i] * stride;                                                                  \
            float s = 0;                                                                                               \
            for (size_t j = 0; j < columns; j++) {                                                                     \
                float d = q[j] - x[j];                                                                                 \
                s += d * d;                                                                                            \
            }                                                                                                          \
            scores[i] = -s;                                                                                            \
        }                                                                                                              \
    }

GATHER(portable, )
#if defined(__x86_64__)
GATHER(avx2, __attribute__((target("avx2,fma"))))
GATHER(avx512, __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-256-bit"))))
#endif

void CKernels_gather_dot(const float *query, const float *base, size_t stride, size_t columns, const uint32_t *rows,
                         size_t count, float *scores) {
#if defined(__x86_64__)
    if (CKernels_level() == 2) return avx512_gather_dot(query, base, stride, columns, rows, count, scores);
    if (CKernels_level() == 1) return avx2_gather_dot(query, base, stride, columns, rows, count, scores);
#endif
    portable_gather_dot(query, base, stride, columns, rows, count, scores);
}

void CKernels_gather_distance(const float *query, const float *base, size_t stride, size_t columns, const uint32_t *rows,
                              size_t count, float *scores) {
#if defined(__x86_64__)
    if (CKernels_level() == 2) return avx512_gather_distance(query, base, stride, columns, rows, count, scores);
    if (CKernels_level() == 1) return avx2_gather_distance(query, base, stride, columns, rows, count, scores);
#endif
    portable_gather_distance(query, base, stride, columns, rows, count, scores);
}

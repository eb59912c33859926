#include "CKernels.h"
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

// Attention over blocks of 16 events. Scores never leave the first-level cache: a tile of rows meets CHUNK blocks at a
// time, and their keys, values and weights stay there while all rows pass.

typedef float v16 __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t i16 __attribute__((vector_size(64), aligned(4), may_alias));

// 8 blocks of heads 32 wide: 16 KiB of keys, 16 KiB of values, 6 KiB of weights.
// 24 sums of a tile at most: with 2 vectors of the other side and a broadcast they fit 32 registers.
enum { LANES = 16, CHUNK = 8, SUMS = 24, GROUP = 64, GROUPS = 2 };

// Vectors are arguments of inlined functions only: no calling convention is involved.
#pragma clang diagnostic ignored "-Wpsabi"
#define TILE static inline __attribute__((always_inline))
#define UNROLL _Pragma("clang loop unroll(full)")

static inline size_t least(size_t a, size_t b) { return a < b ? a : b; }

// Fetches the keys and values of block `index`, or after the last of `count`, those of the next head, which lie behind this
// one's: the pieces are too short for the machine to see them coming.
static inline void fetch_next(const struct CKernels_blocks *blocks, size_t index, size_t count) {
    size_t floats = LANES * (blocks->key_width + blocks->value_width), offset = blocks->keys;
    if (index >= count) {
        index %= CHUNK;
        offset += floats;
    }
    if (index >= count) return;
    const char *start = (const char *)(blocks->base[index] + offset);
    for (size_t byte = 0; byte < floats * sizeof(float); byte += 64) __builtin_prefetch(start + byte, 0, 2);
}

#define LEVEL 0
#define NAME(f) portable_##f
enum { portable_ROWS = 2, portable_VECTORS = 1 };
#include "attention.inc"
#undef NAME
#undef LEVEL

#if defined(__x86_64__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#define LEVEL 1
#define NAME(f) avx2_##f
enum { avx2_ROWS = 2, avx2_VECTORS = 2 };
#include "attention.inc"
#undef NAME
#undef LEVEL
#pragma clang attribute pop

#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))), apply_to = function)
#define LEVEL 2
#define NAME(f) avx512_##f
enum { avx512_ROWS = 12, avx512_VECTORS = 2 };
#include "attention.inc"
#undef NAME
#undef LEVEL
#pragma clang attribute pop

#define CHOOSE(call)                                 \
    switch (CKernels_level()) {                      \
        case 2: avx512_##call; break;                \
        case 1: avx2_##call; break;                  \
        default: portable_##call;                    \
    }
#else
#define CHOOSE(call) portable_##call;
#endif

void CKernels_silu(float *y, size_t n) { CHOOSE(silu_row(y, n)) }

void CKernels_silu_attend(const struct CKernels_blocks *blocks, const struct CKernels_queries *queries,
                          const struct CKernels_bias *bias, const struct CKernels_own *own, float scale, float *output,
                          size_t output_stride) {
    CHOOSE(silu_attend(blocks, queries, bias, own, scale, output, output_stride))
}

void CKernels_attention_scores(const struct CKernels_blocks *blocks, const struct CKernels_queries *queries, float scale,
                               float *scores, size_t scores_stride) {
    CHOOSE(scores(blocks, queries, scale, scores, scores_stride))
}

void CKernels_attention_mix(const struct CKernels_blocks *blocks, const struct CKernels_queries *queries, const float *weights,
                            size_t weights_stride, float *output, size_t output_stride) {
    CHOOSE(mix(blocks, queries, weights, weights_stride, output, output_stride))
}

void CKernels_class_bias(const float *table, const uint8_t *classes, const float *bias, float *y, size_t n) {
    CHOOSE(class_bias(table, classes, bias, y, n))
}

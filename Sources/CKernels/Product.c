#include "CKernels.h"
#include <string.h>

// Small matrix products with the right-hand side in rows of 16 floats and more, kept ready between calls. OpenBLAS packs both
// sides on every call, which for weights of this size costs as much as a third of the product itself.

#if defined(__x86_64__)

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma,avx2")))
#define TILE static inline __attribute__((always_inline)) TARGET

typedef float v16 __attribute__((vector_size(64), aligned(4), may_alias));

// 12 rows of 2 vectors: 24 sums, 2 loads of b and a broadcast fit the 32 registers.
enum { TILE_ROWS = 12, TILE_COLUMNS = 32 };

// The first `width` of 16 floats at p, zeros after them.
TILE v16 load(const float *p, size_t width) {
    if (width >= 16) return *(const v16 *)p;
    float part[16] = {0};
    memcpy(part, p, width * sizeof(float));
    return *(const v16 *)part;
}

TILE void store(float *p, v16 x, size_t width) {
    if (width >= 16) {
        *(v16 *)p = x;
    } else {
        float part[16];
        *(v16 *)part = x;
        memcpy(p, part, width * sizeof(float));
    }
}

// `rows` and `vectors` are constants at every call, so the loops over them unroll and `sum` lives in registers.
TILE void tile(int rows, int vectors, const float *a, size_t a_stride, const float *b, size_t b_stride, size_t inner,
               const float *bias, int accumulate, float *c, size_t c_stride, size_t width) {
    v16 sum[TILE_ROWS][2];
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++) {
#pragma clang loop unroll(full)
        for (int v = 0; v < vectors; v++) {
            size_t left = width > 16u * v ? width - 16u * v : 0;
            sum[i][v] = bias ? load(bias + 16 * v, left) : (v16){0};
            if (accumulate) sum[i][v] += load(c + i * c_stride + 16 * v, left);
        }
    }
    for (size_t p = 0; p < inner; p++) {
        v16 right[2];
#pragma clang loop unroll(full)
        for (int v = 0; v < vectors; v++) right[v] = *(const v16 *)(b + p * b_stride + 16 * v);
#pragma clang loop unroll(full)
        for (int i = 0; i < rows; i++) {
            float left = a[i * a_stride + p];
#pragma clang loop unroll(full)
            for (int v = 0; v < vectors; v++) sum[i][v] += left * right[v];
        }
    }
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++) {
#pragma clang loop unroll(full)
        for (int v = 0; v < vectors; v++) {
            if (width > 16u * v) store(c + i * c_stride + 16 * v, sum[i][v], width - 16u * v);
        }
    }
}

#define CASE(n)                                                                                                          \
    case n:                                                                                                              \
        if (width > 16) tile(n, 2, a, a_stride, b, b_stride, inner, bias, accumulate, c, c_stride, width);               \
        else tile(n, 1, a, a_stride, b, b_stride, inner, bias, accumulate, c, c_stride, width);                          \
        break;

TARGET static void tiles(size_t rows, const float *a, size_t a_stride, const float *b, size_t b_stride, size_t inner,
                         const float *bias, int accumulate, float *c, size_t c_stride, size_t width) {
    for (size_t first = 0; first < rows; first += TILE_ROWS) {
        switch (rows - first < TILE_ROWS ? rows - first : TILE_ROWS) {
            CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
        }
        a += TILE_ROWS * a_stride;
        c += TILE_ROWS * c_stride;
    }
}

void CKernels_product(const float *a, size_t a_stride, size_t rows, size_t inner, const float *b, size_t b_stride,
                      size_t panel_stride, size_t columns, const float *bias, int accumulate, float *c, size_t c_stride) {
    for (size_t first = 0; first < columns; first += TILE_COLUMNS) {
        size_t width = columns - first < TILE_COLUMNS ? columns - first : TILE_COLUMNS;
        tiles(rows, a, a_stride, b, b_stride, inner, bias, accumulate, c + first, c_stride, width);
        b += panel_stride;
        if (bias) bias += TILE_COLUMNS;
    }
}

#else

void CKernels_product(const float *a, size_t a_stride, size_t rows, size_t inner, const float *b, size_t b_stride,
                      size_t panel_stride, size_t columns, const float *bias, int accumulate, float *c, size_t c_stride) {
    for (size_t i = 0; i < rows; i++) {
        for (size_t j = 0; j < columns; j++) {
            float sum = (bias ? bias[j] : 0) + (accumulate ? c[i * c_stride + j] : 0);
            const float *right = b + j / 32 * panel_stride + j % 32;
            for (size_t p = 0; p < inner; p++) sum += a[i * a_stride + p] * right[p * b_stride];
            c[i * c_stride + j] = sum;
        }
    }
}

#endif

#pragma once
#include <stddef.h>
#include <stdint.h>
#include "Attention.h"
#include "Gather.h"

// Element-wise float kernels, compiled for several instruction sets and chosen once at run time.
// Every function reads and writes only the memory its arguments name; none allocates.

// Highest level this machine can run: 0 portable, 1 AVX2 + FMA, 2 AVX-512.
int CKernels_level_supported(void);
// Level this thread uses; set by tests to walk every path. A level above the supported one is ignored.
int CKernels_level(void);
void CKernels_set_level(int level);

float CKernels_dot(const float *a, const float *b, size_t n);
float CKernels_squared_distance(const float *a, const float *b, size_t n);
// y[i] += a * x[i]
void CKernels_axpy(float a, const float *x, float *y, size_t n);
void CKernels_scale(float a, float *y, size_t n);
void CKernels_add(const float *x, float *y, size_t n);
void CKernels_relu(float *y, size_t n);
void CKernels_silu(float *y, size_t n);
void CKernels_sigmoid(float *y, size_t n);
void CKernels_tanh(float *y, size_t n);
// s = softmax(s) with `extra_count` further keys of score `extra`; returns the weight of one extra key.
float CKernels_softmax(float *s, size_t n, float extra, float extra_count);
// y = (x - mean) / sqrt(variance + epsilon) * weight + bias; weight and bias may be NULL. x == y is allowed.
void CKernels_layer_norm(const float *x, const float *weight, const float *bias, float epsilon, float *y, size_t n);
// y[i] = a[i] * b[i]
void CKernels_multiply(const float *a, const float *b, float *y, size_t n);
// The DCN-V2 cross step: product[i] = x[i] + x0[i] * (product[i] + bias[i]); x may be x0.
void CKernels_cross(const float *x0, const float *x, const float *bias, float *product, size_t n);
// 1 if all are finite.
int CKernels_all_finite(const float *x, size_t n);

void CKernels_from_half(const uint16_t *x, float *y, size_t n);
void CKernels_from_bfloat(const uint16_t *x, float *y, size_t n);

// c = a · b, plus bias and the old c as asked: a [rows, inner]; b in panels of 32 columns, `panel_stride` floats apart, each [inner, 32]
// with rows `b_stride` apart and readable up to a multiple of 16 columns; bias [columns] or NULL; c [rows, columns].
// Needs level 2 (AVX-512).
void CKernels_product(const float *a, size_t a_stride, size_t rows, size_t inner, const float *b, size_t b_stride,
                      size_t panel_stride, size_t columns, const float *bias, int accumulate, float *c, size_t c_stride);

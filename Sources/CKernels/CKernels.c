#include "CKernels.h"

struct table {
    float (*dot)(const float *, const float *, size_t);
    float (*squared_distance)(const float *, const float *, size_t);
    void (*axpy)(float, const float *, float *, size_t);
    void (*scale)(float, float *, size_t);
    void (*add)(const float *, float *, size_t);
    void (*relu)(float *, size_t);
    void (*sigmoid)(float *, size_t);
    void (*tanh)(float *, size_t);
    float (*softmax)(float *, size_t, float, float);
    void (*layer_norm)(const float *, const float *, const float *, float, float *, size_t);
    void (*multiply)(const float *, const float *, float *, size_t);
    void (*cross)(const float *, const float *, const float *, float *, size_t);
    int (*all_finite)(const float *, size_t);
};

// Sums may be regrouped into vector lanes; nothing else of fast-math is wanted (NaN and infinity stay visible).
#define REASSOCIATE _Pragma("clang fp reassociate(on)")

// Element i of the result needs element i of the operands only, so the result may be one of them.
#define IN_PLACE _Pragma("clang loop vectorize(assume_safety)")

#define NAME(f) portable_##f
#include "kernels.inc"
#undef NAME

#if defined(__x86_64__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#define NAME(f) avx2_##f
#include "kernels.inc"
#undef NAME
#pragma clang attribute pop

#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))), apply_to = function)
#define NAME(f) avx512_##f
#include "kernels.inc"
#undef NAME
#pragma clang attribute pop
#endif

static const struct table *tables[3] = {
    &portable_table,
#if defined(__x86_64__)
    &avx2_table,
    &avx512_table,
#else
    &portable_table,
    &portable_table,
#endif
};

int CKernels_level_supported(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        return 2;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return 1;
#endif
    return 0;
}

// The machine's level, found before main, and how far below it this thread stays: 0 but in tests.
static int supported = 0;
static _Thread_local int lowered = 0;
#define use tables[supported - lowered]

__attribute__((constructor)) static void choose(void) { supported = CKernels_level_supported(); }

int CKernels_level(void) { return supported - lowered; }

void CKernels_set_level(int level) {
    if (level >= 0 && level <= supported) lowered = supported - level;
}

float CKernels_dot(const float *a, const float *b, size_t n) { return use->dot(a, b, n); }
float CKernels_squared_distance(const float *a, const float *b, size_t n) { return use->squared_distance(a, b, n); }
void CKernels_axpy(float a, const float *x, float *y, size_t n) { use->axpy(a, x, y, n); }
void CKernels_scale(float a, float *y, size_t n) { use->scale(a, y, n); }
void CKernels_add(const float *x, float *y, size_t n) { use->add(x, y, n); }
void CKernels_relu(float *y, size_t n) { use->relu(y, n); }
void CKernels_sigmoid(float *y, size_t n) { use->sigmoid(y, n); }
void CKernels_tanh(float *y, size_t n) { use->tanh(y, n); }
float CKernels_softmax(float *s, size_t n, float extra, float extra_count) { return use->softmax(s, n, extra, extra_count); }
void CKernels_layer_norm(const float *x, const float *weight, const float *bias, float epsilon, float *y, size_t n) {
    use->layer_norm(x, weight, bias, epsilon, y, n);
}
void CKernels_multiply(const float *a, const float *b, float *y, size_t n) { use->multiply(a, b, y, n); }
void CKernels_cross(const float *x0, const float *x, const float *bias, float *product, size_t n) {
    use->cross(x0, x, bias, product, n);
}
int CKernels_all_finite(const float *x, size_t n) { return use->all_finite(x, n); }

// Used once at load: plain bit work, no instruction set needed.
void CKernels_from_half(const uint16_t *x, float *y, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint32_t sign = (uint32_t)(x[i] & 0x8000) << 16, exponent = (x[i] >> 10) & 31, mantissa = x[i] & 0x3ff;
        float value;
        if (exponent == 0) {
            value = (float)mantissa * 0x1p-24f;  // zero and subnormals
            uint32_t bits;
            __builtin_memcpy(&bits, &value, 4);
            bits |= sign;
            __builtin_memcpy(&value, &bits, 4);
        } else {
            uint32_t bits = sign | (exponent == 31 ? 255u : exponent + 112) << 23 | mantissa << 13;
            __builtin_memcpy(&value, &bits, 4);
        }
        y[i] = value;
    }
}

void CKernels_from_bfloat(const uint16_t *x, float *y, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = (uint32_t)x[i] << 16;
        __builtin_memcpy(y + i, &bits, 4);
    }
}

#pragma once
#include <stddef.h>
#include <stdint.h>

// Requests the `columns` floats at `row` ahead of their use.
void CKernels_prefetch(const float *row, size_t columns);

// scores[i] = the dot product of `query` with row rows[i] of a row-major matrix, `stride` floats apart, `columns` wide.
// The caller has checked every row.
void CKernels_gather_dot(const float *query, const float *base, size_t stride, size_t columns, const uint32_t *rows,
                         size_t count, float *scores);
// The same with the negative squared distance.
void CKernels_gather_distance(const float *query, const float *base, size_t stride, size_t columns, const uint32_t *rows,
                              size_t count, float *scores);

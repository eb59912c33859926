#pragma once
#include <stddef.h>
#include <stdint.h>

// Attention over keys and values that lie in blocks of 16 events: blocks[b] + keys is [key_width, 16], a column per
// event, and blocks[b] + values is [16, value_width], a row per event.
struct CKernels_blocks {
    const float *const *base;
    size_t keys, values;
    size_t key_width, value_width;
};

// Rows that attend: row r sees the first seen + r * step events. Whole vectors of 16 keys are read, values only of
// events seen by the last row.
struct CKernels_queries {
    const float *query;  // [rows, key_width]
    size_t stride, rows;
    size_t seen, step;
};

// What is added to the scores: row r's begins at bias + r * stride, one float per event seen; NULL for nothing.
struct CKernels_bias {
    const float *row;
    ptrdiff_t stride;
};

// A further event of each row's own, the last that it sees; NULL for none.
struct CKernels_own {
    const float *keys, *values;  // [rows, key_width], [rows, value_width]
    size_t stride;               // of both
};

// output[r] = sum over the events j that r sees of SiLU(q_r · k_j + bias) * scale * v_j.
void CKernels_silu_attend(const struct CKernels_blocks *blocks, const struct CKernels_queries *queries,
                          const struct CKernels_bias *bias, const struct CKernels_own *own, float scale, float *output,
                          size_t output_stride);

// scores[r, j] = q_r · k_j * scale for whole blocks up to the last event that the last row sees.
void CKernels_attention_scores(const struct CKernels_blocks *blocks, const struct CKernels_queries *queries, float scale,
                               float *scores, size_t scores_stride);

// output[r] = sum of weights[r, j] * v_j over the events that the last row sees.
void CKernels_attention_mix(const struct CKernels_blocks *blocks, const struct CKernels_queries *queries, const float *weights,
                            size_t weights_stride, float *output, size_t output_stride);

// y[j] = table[classes[j]], plus bias[j] unless it is NULL; `table` has 129 floats, and a class beyond is the last.
void CKernels_class_bias(const float *table, const uint8_t *classes, const float *bias, float *y, size_t n);

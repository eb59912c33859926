#pragma once
#include <stddef.h>
#include <stdint.h>

// FAISS behind a C face: one function per call, and no C++ exception leaves it.
//
// Every function that can fail returns CFaiss_ok or the kind of failure, and then writes a NUL-terminated text of at
// most `message_capacity` bytes to `message`. Vectors are row-major float [n, dimension].

#ifdef __cplusplus
extern "C" {
#endif

typedef struct CFaiss_index CFaiss_index;

enum {
    CFaiss_ok = 0,
    CFaiss_error_argument = 1,  // a value that this shim refuses
    CFaiss_error_faiss = 2,     // FAISS threw
    CFaiss_error_memory = 3,    // no memory
    CFaiss_error_other = 4,     // anything else was thrown
};

enum { CFaiss_metric_inner_product = 0, CFaiss_metric_l2 = 1 };
enum { CFaiss_kind_flat = 0, CFaiss_kind_ivfpq = 1 };

// A new, empty, untrained index; freed with CFaiss_index_free. `lists`, `subquantizers` and `bits` matter to IVFPQ only.
int CFaiss_index_create(int kind, int metric, size_t dimension, size_t lists, size_t subquantizers, size_t bits,
                        CFaiss_index **index, char *message, size_t message_capacity);
void CFaiss_index_free(CFaiss_index *index);

// Learns lists and codebooks from a sample of `count` vectors; returns at once for a flat index.
int CFaiss_index_train(CFaiss_index *index, size_t count, const float *vectors, int list_iterations, int code_iterations,
                       int points_per_centroid, int seed, char *message, size_t message_capacity);
// Appends vectors; their labels go on from the present count.
int CFaiss_index_add(CFaiss_index *index, size_t count, const float *vectors, char *message, size_t message_capacity);

// Best `k` labels of one query, best first, padded with -1; `probes` lists are scanned. Safe from several threads.
int CFaiss_index_search(const CFaiss_index *index, const float *query, size_t k, size_t probes, float *scores,
                        int64_t *labels, char *message, size_t message_capacity);

// The serialised index in new memory, freed with CFaiss_bytes_free.
int CFaiss_index_write(const CFaiss_index *index, uint8_t **bytes, size_t *count, char *message, size_t message_capacity);
void CFaiss_bytes_free(uint8_t *bytes);
// Reads what CFaiss_index_write or FAISS wrote. FAISS does not survive every damaged file, and leaks what it had read of
// one that ends early: verify a digest first.
int CFaiss_index_read(const uint8_t *bytes, size_t count, CFaiss_index **index, char *message, size_t message_capacity);

size_t CFaiss_index_count(const CFaiss_index *index);
size_t CFaiss_index_dimension(const CFaiss_index *index);
int CFaiss_index_metric(const CFaiss_index *index);
int CFaiss_index_kind(const CFaiss_index *index);
size_t CFaiss_index_lists(const CFaiss_index *index);  // 0 for a flat index

// OpenMP threads of FAISS calls made by this thread from now on.
void CFaiss_set_threads(int count);

#ifdef __cplusplus
}
#endif

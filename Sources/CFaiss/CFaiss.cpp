#include "CFaiss.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <new>

#include <faiss/IndexFlat.h>
#include <faiss/IndexIVFPQ.h>
#include <faiss/impl/FaissException.h>
#include <faiss/impl/io.h>
#include <faiss/index_io.h>

// Declared here because the compiler at hand has no omp.h; libgomp has the function.
extern "C" void omp_set_num_threads(int);

struct CFaiss_index {
    std::unique_ptr<faiss::Index> index;
    faiss::IndexIVFPQ *ivfpq;  // the same object when it is one
};

namespace {

int fail(int code, const char *what, char *message, size_t capacity) {
    if (message != nullptr && capacity > 0) std::snprintf(message, capacity, "%s", what);
    return code;
}

struct argument_error : std::exception {
    const char *text;
    explicit argument_error(const char *t) : text(t) {}
    const char *what() const noexcept override { return text; }
};

void require(bool condition, const char *text) {
    if (!condition) throw argument_error(text);
}

template <typename Body> int guarded(char *message, size_t capacity, Body body) {
    try {
        body();
        return CFaiss_ok;
    } catch (const argument_error &e) {
        return fail(CFaiss_error_argument, e.what(), message, capacity);
    } catch (const faiss::FaissException &e) {
        return fail(CFaiss_error_faiss, e.what(), message, capacity);
    } catch (const std::bad_alloc &e) {
        return fail(CFaiss_error_memory, e.what(), message, capacity);
    } catch (const std::exception &e) {
        return fail(CFaiss_error_other, e.what(), message, capacity);
    } catch (...) {
        return fail(CFaiss_error_other, "unknown exception", message, capacity);
    }
}

// Bytes that somebody else owns.
struct BorrowedReader : faiss::IOReader {
    const uint8_t *bytes;
    size_t left;
    BorrowedReader(const uint8_t *b, size_t n) : bytes(b), left(n) {}
    size_t operator()(void *target, size_t size, size_t count) override {
        if (size == 0) return 0;
        size_t whole = std::min(count, left / size);
        if (whole > 0) std::memcpy(target, bytes, whole * size);
        bytes += whole * size;
        left -= whole * size;
        return whole;
    }
};

// What a search relies on and a file could get wrong.
void check(const faiss::Index &index, const faiss::IndexIVFPQ *ivfpq) {
    require(index.d > 0 && index.ntotal >= 0 && index.is_trained, "an empty dimension or an untrained index");
    require(index.metric_type == faiss::METRIC_INNER_PRODUCT || index.metric_type == faiss::METRIC_L2, "an unknown metric");
    if (ivfpq == nullptr) {
        auto flat = dynamic_cast<const faiss::IndexFlat *>(&index);
        require(flat != nullptr, "an index that is neither Flat nor IVFPQ");
        require(flat->codes.size() == sizeof(float) * flat->d * flat->ntotal, "a flat index of the wrong size");
        return;
    }
    auto quantizer = dynamic_cast<const faiss::IndexFlat *>(ivfpq->quantizer);
    require(quantizer != nullptr && quantizer->d == index.d, "another coarse quantizer than Flat");
    require(ivfpq->nlist > 0 && quantizer->ntotal == static_cast<faiss::Index::idx_t>(ivfpq->nlist),
            "a number of lists unlike its centroids");
    require(quantizer->codes.size() == sizeof(float) * quantizer->d * quantizer->ntotal, "centroids of the wrong size");
    const auto &pq = ivfpq->pq;
    require(pq.d == static_cast<size_t>(index.d) && pq.M > 0 && pq.M * pq.dsub == pq.d && pq.nbits >= 1 && pq.nbits <= 16
                && pq.code_size == ivfpq->code_size && pq.centroids.size() == pq.d * pq.ksub,
            "a codebook of another shape");
    require(ivfpq->invlists != nullptr && ivfpq->invlists->nlist == ivfpq->nlist
                && ivfpq->invlists->code_size == ivfpq->code_size,
            "lists of another shape");
    size_t total = 0;
    for (size_t list = 0; list < ivfpq->nlist; list++) total += ivfpq->invlists->list_size(list);
    require(total == static_cast<size_t>(index.ntotal), "lists of another total");
}

std::unique_ptr<faiss::Index> create(int kind, int metric, size_t dimension, size_t lists, size_t subquantizers, size_t bits) {
    require(metric == CFaiss_metric_inner_product || metric == CFaiss_metric_l2, "an unknown metric");
    require(dimension >= 1 && dimension <= 65536, "dimension outside 1...65536");
    auto m = metric == CFaiss_metric_l2 ? faiss::METRIC_L2 : faiss::METRIC_INNER_PRODUCT;
    if (kind == CFaiss_kind_flat) return std::make_unique<faiss::IndexFlat>(dimension, m);
    require(kind == CFaiss_kind_ivfpq, "an unknown kind");
    require(lists >= 1 && lists <= (1u << 24), "lists outside 1...16777216");
    // A division by zero inside FAISS would be a signal, not an exception.
    require(subquantizers >= 1 && dimension % subquantizers == 0, "subquantizers do not divide the dimension");
    require(bits >= 1 && bits <= 16, "bits outside 1...16");
    auto quantizer = std::make_unique<faiss::IndexFlat>(dimension, m);
    auto index = std::make_unique<faiss::IndexIVFPQ>(quantizer.get(), dimension, lists, subquantizers, bits, m);
    quantizer.release();
    index->own_fields = true;
    return index;
}

}  // namespace

int CFaiss_index_create(int kind, int metric, size_t dimension, size_t lists, size_t subquantizers, size_t bits,
                        CFaiss_index **index, char *message, size_t capacity) {
    return guarded(message, capacity, [&] {
        require(index != nullptr, "no place for the index");
        auto made = create(kind, metric, dimension, lists, subquantizers, bits);
        auto ivfpq = dynamic_cast<faiss::IndexIVFPQ *>(made.get());
        *index = new CFaiss_index{std::move(made), ivfpq};
    });
}

void CFaiss_index_free(CFaiss_index *index) { delete index; }

int CFaiss_index_train(CFaiss_index *index, size_t count, const float *vectors, int list_iterations, int code_iterations,
                       int points_per_centroid, int seed, char *message, size_t capacity) {
    return guarded(message, capacity, [&] {
        require(index != nullptr && (vectors != nullptr || count == 0), "no index or no vectors");
        if (index->ivfpq == nullptr) return;
        require(list_iterations >= 1 && code_iterations >= 1 && points_per_centroid >= 1, "a training setting below 1");
        faiss::ClusteringParameters *both[] = {&index->ivfpq->cp, &index->ivfpq->pq.cp};
        for (auto cp : both) {
            cp->min_points_per_centroid = 1;  // fewer than 39 are allowed, and FAISS would write a warning to stderr
            cp->max_points_per_centroid = points_per_centroid;
            cp->seed = seed;
        }
        index->ivfpq->cp.niter = list_iterations;
        index->ivfpq->pq.cp.niter = code_iterations;
        index->ivfpq->train(static_cast<faiss::Index::idx_t>(count), vectors);
    });
}

int CFaiss_index_add(CFaiss_index *index, size_t count, const float *vectors, char *message, size_t capacity) {
    return guarded(message, capacity, [&] {
        require(index != nullptr && (vectors != nullptr || count == 0), "no index or no vectors");
        require(index->index->is_trained, "not trained yet");
        index->index->add(static_cast<faiss::Index::idx_t>(count), vectors);
    });
}

int CFaiss_index_search(const CFaiss_index *index, const float *query, size_t k, size_t probes, float *scores,
                        int64_t *labels, char *message, size_t capacity) {
    return guarded(message, capacity, [&] {
        require(index != nullptr && query != nullptr && scores != nullptr && labels != nullptr, "a missing pointer");
        require(k >= 1 && k <= (1u << 24), "k outside 1...16777216");
        require(index->index->is_trained, "not trained yet");
        if (index->ivfpq == nullptr) {
            index->index->search(1, query, static_cast<faiss::Index::idx_t>(k), scores, labels);
            return;
        }
        require(probes >= 1, "no lists to probe");
        faiss::IVFPQSearchParameters parameters;
        parameters.nprobe = std::min(probes, index->ivfpq->nlist);
        index->index->search(1, query, static_cast<faiss::Index::idx_t>(k), scores, labels, &parameters);
    });
}

int CFaiss_index_write(const CFaiss_index *index, uint8_t **bytes, size_t *count, char *message, size_t capacity) {
    return guarded(message, capacity, [&] {
        require(index != nullptr && bytes != nullptr && count != nullptr, "a missing pointer");
        faiss::VectorIOWriter writer;
        faiss::write_index(index->index.get(), &writer);
        auto copy = static_cast<uint8_t *>(std::malloc(std::max<size_t>(1, writer.data.size())));
        if (copy == nullptr) throw std::bad_alloc();
        std::memcpy(copy, writer.data.data(), writer.data.size());
        *bytes = copy;
        *count = writer.data.size();
    });
}

void CFaiss_bytes_free(uint8_t *bytes) { std::free(bytes); }

int CFaiss_index_read(const uint8_t *bytes, size_t count, CFaiss_index **index, char *message, size_t capacity) {
    return guarded(message, capacity, [&] {
        require(bytes != nullptr && index != nullptr, "a missing pointer");
        BorrowedReader reader(bytes, count);
        std::unique_ptr<faiss::Index> made(faiss::read_index(&reader));
        require(reader.left == 0, "bytes after the end");
        auto ivfpq = dynamic_cast<faiss::IndexIVFPQ *>(made.get());
        check(*made, ivfpq);
        *index = new CFaiss_index{std::move(made), ivfpq};
    });
}

size_t CFaiss_index_count(const CFaiss_index *index) { return static_cast<size_t>(index->index->ntotal); }
size_t CFaiss_index_dimension(const CFaiss_index *index) { return static_cast<size_t>(index->index->d); }
int CFaiss_index_metric(const CFaiss_index *index) {
    return index->index->metric_type == faiss::METRIC_L2 ? CFaiss_metric_l2 : CFaiss_metric_inner_product;
}
int CFaiss_index_kind(const CFaiss_index *index) { return index->ivfpq == nullptr ? CFaiss_kind_flat : CFaiss_kind_ivfpq; }
size_t CFaiss_index_lists(const CFaiss_index *index) { return index->ivfpq == nullptr ? 0 : index->ivfpq->nlist; }

void CFaiss_set_threads(int count) { omp_set_num_threads(count < 1 ? 1 : count); }

#include <zlib.h>

// deflateInit2 and inflateInit2 are macros, which the importer cannot see. 15 + 16: the largest window, 32 KiB, and the
// gzip format.
static inline int CZlib_deflate_begin(z_stream *_Nonnull stream, int level) {
    return deflateInit2(stream, level, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
}
static inline int CZlib_inflate_begin(z_stream *_Nonnull stream) { return inflateInit2(stream, 15 + 16); }

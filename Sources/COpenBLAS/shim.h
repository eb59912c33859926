#include <cblas.h>
#include <stddef.h>

/* LAPACK's singular value decomposition, which OpenBLAS carries but declares nowhere: A (column-major, m by n) is
   U S VT. The last argument is Fortran's hidden length of `jobz`. */
void dgesdd_(const char *jobz, const int *m, const int *n, double *a, const int *lda, double *s, double *u,
             const int *ldu, double *vt, const int *ldvt, double *work, const int *lwork, int *iwork, int *info,
             size_t jobz_length);

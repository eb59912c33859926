#include "CSQLite.h"

#include <pthread.h>
#include <string.h>

// secure_delete zeroes a deleted cell, but when a page is split or merged, the cells that moved to another page
// stay behind in its unallocated gap. Whoever is deleted later is deleted from the new page only. A page of a
// database file carries no checksum and nobody reads its unallocated bytes, so they are zeroed as it is written.

static int word(const unsigned char *at) { return at[0] << 8 | at[1]; }

void CSQLite_clean_page(unsigned char *page, int size, int start) {
    // SQLite file format, §1.6: other pages begin with a page number, below 2^25 here (max_page_count), so with 0 or 1.
    int type = page[start];
    if (type != 2 && type != 5 && type != 10 && type != 13) return;
    int pointers = start + (type == 2 || type == 5 ? 12 : 8);
    int gap = pointers + 2 * word(page + start + 3);
    int content = word(page + start + 5);
    if (content == 0) content = 65536;
    if (gap > content || content > size) return;
    memset(page + gap, 0, (size_t)(content - gap));
    // Each free block is linked to one further up, and begins with the link and its size.
    int block = word(page + start + 1);
    while (block >= content && block + 4 <= size) {
        int next = word(page + block);
        int length = word(page + block + 2);
        if (length < 4 || block + length > size) return;
        memset(page + block + 4, 0, (size_t)(length - 4));
        if (next <= block) return;
        block = next;
    }
}

static sqlite3_vfs *parent;
static sqlite3_vfs cleaning;
static const sqlite3_io_methods *plain;
static sqlite3_io_methods cleaned;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

enum { largest_page = 65536 };

static int write_clean(sqlite3_file *file, const void *bytes, int count, sqlite3_int64 offset) {
    // Pages are written whole; what is shorter is no page.
    if (count < 512 || count > largest_page || offset % count != 0) return plain->xWrite(file, bytes, count, offset);
    unsigned char page[largest_page];
    memcpy(page, bytes, (size_t)count);
    CSQLite_clean_page(page, count, offset == 0 ? 100 : 0);
    return plain->xWrite(file, page, count, offset);
}

static int open_clean(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *granted) {
    (void)vfs;
    int status = parent->xOpen(parent, name, file, flags, granted);
    if (status != SQLITE_OK || !(flags & SQLITE_OPEN_MAIN_DB)) return status;
    pthread_mutex_lock(&lock);
    if (!plain) {
        plain = file->pMethods;
        cleaned = *plain;
        cleaned.xWrite = write_clean;
    }
    // The methods depend on how a file system locks; another kind than the first one is left as it is.
    if (file->pMethods == plain) file->pMethods = &cleaned;
    pthread_mutex_unlock(&lock);
    return status;
}

int CSQLite_register(void) {
    pthread_mutex_lock(&lock);
    int status = SQLITE_OK;
    if (!parent) {
        parent = sqlite3_vfs_find(NULL);
        if (parent) {
            cleaning = *parent;
            cleaning.zName = "recserver";
            cleaning.xOpen = open_clean;
            status = sqlite3_vfs_register(&cleaning, 0);
        } else {
            status = SQLITE_ERROR;
        }
    }
    pthread_mutex_unlock(&lock);
    return status;
}

int CSQLite_bind_text(sqlite3_stmt *statement, int index, const char *text, int count) {
    return sqlite3_bind_text(statement, index, text, count, SQLITE_TRANSIENT);
}

int CSQLite_bind_blob(sqlite3_stmt *statement, int index, const void *bytes, int count) {
    return sqlite3_bind_blob(statement, index, bytes, count, SQLITE_TRANSIENT);
}

#include "CSQLite.h"

#include <pthread.h>
#include <stdlib.h>
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
static sqlite3_vfs ours;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

// SQLite writes a log in two calls a page. What follows on what was written is collected and written at once:
// nobody else looks at it before a sync, as with synchronous = FULL each commit ends with one before it is shown to
// readers. A database file is not collected: a checkpoint beside readers shows its pages without a sync.
// SQLite's own methods write less than 2^17 bytes at a time.
enum { collected_bytes = 126976 };

// Stands behind the parent's own part of a file.
struct collected {
    unsigned char *bytes;
    int count;
    sqlite3_int64 start;
};

// The methods of database files and of logs differ: only the former lock.
struct kind {
    const sqlite3_io_methods *plain;
    sqlite3_io_methods collecting;
};
static struct kind databases, logs;

static int own_offset(void) { return (parent->szOsFile + 15) / 16 * 16; }
static struct collected *collected(sqlite3_file *file) { return (void *)((char *)file + own_offset()); }
static const sqlite3_io_methods *plain(sqlite3_file *file) {
    return file->pMethods == &databases.collecting ? databases.plain : logs.plain;
}

// What fails is dropped: the transaction or checkpoint it belongs to is told and has failed.
static int put(sqlite3_file *file) {
    struct collected *own = collected(file);
    int count = own->count;
    own->count = 0;
    return count > 0 ? plain(file)->xWrite(file, own->bytes, count, own->start) : SQLITE_OK;
}

static int write_later(sqlite3_file *file, const void *bytes, int count, sqlite3_int64 offset) {
    struct collected *own = collected(file);
    if (own->count > 0 && (offset != own->start + own->count || own->count + count > collected_bytes)) {
        int status = put(file);
        if (status != SQLITE_OK) return status;
    }
    if (!own->bytes) own->bytes = malloc(collected_bytes);
    if (!own->bytes) return SQLITE_IOERR_NOMEM;
    if (count > collected_bytes) return plain(file)->xWrite(file, bytes, count, offset);
    if (file->pMethods == &databases.collecting) {
        memcpy(own->bytes, bytes, (size_t)count);
        // Pages of a database are written whole; what is shorter is no page.
        if (count >= 512 && offset % count == 0)
            CSQLite_clean_page(own->bytes, count, offset == 0 ? 100 : 0);
        return plain(file)->xWrite(file, own->bytes, count, offset);
    }
    if (own->count == 0) own->start = offset;
    memcpy(own->bytes + own->count, bytes, (size_t)count);
    own->count += count;
    return SQLITE_OK;
}

static int read_written(sqlite3_file *file, void *bytes, int count, sqlite3_int64 offset) {
    int status = put(file);
    return status == SQLITE_OK ? plain(file)->xRead(file, bytes, count, offset) : status;
}

static int truncate_written(sqlite3_file *file, sqlite3_int64 size) {
    int status = put(file);
    return status == SQLITE_OK ? plain(file)->xTruncate(file, size) : status;
}

static int sync_written(sqlite3_file *file, int flags) {
    int status = put(file);
    return status == SQLITE_OK ? plain(file)->xSync(file, flags) : status;
}

static int size_written(sqlite3_file *file, sqlite3_int64 *size) {
    int status = put(file);
    return status == SQLITE_OK ? plain(file)->xFileSize(file, size) : status;
}

// What was not synced belongs to no commit, and its place in the log may be another's by now.
static int close_written(sqlite3_file *file) {
    free(collected(file)->bytes);
    return plain(file)->xClose(file);
}

static int open_ours(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *granted) {
    (void)vfs;
    int status = parent->xOpen(parent, name, file, flags, granted);
    if (status != SQLITE_OK || !(flags & (SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_WAL))) return status;
    struct kind *kind = flags & SQLITE_OPEN_WAL ? &logs : &databases;
    pthread_mutex_lock(&lock);
    if (!kind->plain) {
        kind->plain = file->pMethods;
        sqlite3_io_methods *methods = &kind->collecting;
        *methods = *kind->plain;
        methods->xRead = read_written;
        methods->xWrite = write_later;
        methods->xTruncate = truncate_written;
        methods->xSync = sync_written;
        methods->xFileSize = size_written;
        methods->xClose = close_written;
    }
    // The methods depend on how a file system locks; another kind than the first one is left as it is.
    if (file->pMethods == kind->plain) {
        memset(collected(file), 0, sizeof(struct collected));
        file->pMethods = &kind->collecting;
    }
    pthread_mutex_unlock(&lock);
    return status;
}

int CSQLite_register(void) {
    pthread_mutex_lock(&lock);
    int status = SQLITE_OK;
    if (!parent) {
        // Nobody asks SQLite how much memory it has, and counting takes a lock each time.
        sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
        parent = sqlite3_vfs_find(NULL);
        if (parent) {
            ours = *parent;
            ours.zName = "recserver";
            ours.szOsFile = own_offset() + (int)sizeof(struct collected);
            ours.xOpen = open_ours;
            status = sqlite3_vfs_register(&ours, 0);
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

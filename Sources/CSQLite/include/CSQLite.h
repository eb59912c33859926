#pragma once
#include <sqlite3.h>

// Registers the file system "recserver": the default one, except that pages on their way into a database
// file are first freed of what deleted rows left in their unallocated parts, and that writes to databases and
// logs are collected up to the next sync, read or close: only with synchronous = FULL do other connections see
// what they should. Any thread, any number of times.
int CSQLite_register(void);

// Copies of what is bound are made: SQLITE_TRANSIENT is a cast that the importer cannot see.
int CSQLite_bind_text(sqlite3_stmt *statement, int index, const char *text, int count);
int CSQLite_bind_blob(sqlite3_stmt *statement, int index, const void *bytes, int count);

// The unallocated bytes of the B-tree page at `page` become 0; `start` is where its header begins.
void CSQLite_clean_page(unsigned char *page, int size, int start);

/* `belfry backup`, `belfry restore` and `belfry verify FILE`: see storage/backup.h for the file. */
#ifndef BELFRY_ARCHIVE_H
#define BELFRY_ARCHIVE_H

/* A file that is in a data directory while a restore into it is not complete. */
#define RESTORE_MARK "restoring"

/* Backs up a data directory, beside the node that uses it or without one: a reader of its own process
 * that holds up nobody. Prints what it made. Returns the exit status: 0 done, 1 not done. */
int archive_backup(const char *data, const char *path, const char *key_file);
/* Reads all of a backup and says what it holds. 0 whole, 1 damaged or the wrong key. */
int archive_verify(const char *path, const char *key_file);
/* Makes a data directory of a new cluster out of a backup. The whole backup is read and found good
 * before anything is written; the directory must be empty, or not there. */
int archive_restore(const char *path, const char *key_file, const char *data);

#endif

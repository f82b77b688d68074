/* A disk that fails: loaded before the C library into a server under test, it lets operations on files below one folder
 * fail as a control file says. It knows no server and no format, and touches nothing outside of the folder.
 *
 * The control file is an array of 64-bit words, shared by mapping: see `control.rs`, which writes it. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OPEN = 1, WRITE = 2, SYNC = 4, RENAME = 8, TRUNCATE = 16, REMOVE = 32, READ = 64, LOOK = 128 };

struct control {
    uint64_t armed;  /* the others hold */
    uint64_t mask;   /* operations that count */
    uint64_t first;  /* of these, the first to fail */
    uint64_t count;  /* and how many */
    uint64_t error;  /* with this number */
    uint64_t cut;    /* a write is cut short before it fails */
    uint64_t seen;   /* counted so far */
    uint64_t hits;   /* failed so far */
    char part[64];   /* only where the path has this in it */
};

static struct control *control;
static char folder[PATH_MAX];

__attribute__((constructor)) static void begin(void) {
    const char *name = getenv("LARDER_FAULTS_CONTROL"), *below = getenv("LARDER_FAULTS_FOLDER");
    if (!name || !below || strlen(below) >= sizeof folder) return;
    int fd = syscall(SYS_openat, AT_FDCWD, name, O_RDWR | O_CLOEXEC);
    if (fd < 0) return;
    void *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    syscall(SYS_close, fd);
    if (at == MAP_FAILED) return;
    strcpy(folder, below);
    control = at;
}

/* Whether this operation fails; `shorter` is asked for by a write that may be cut. */
static int fails(unsigned kind, const char *path, int *shorter) {
    size_t len = strlen(folder);
    if (strncmp(path, folder, len) != 0 || (path[len] && path[len] != '/')) return 0;
    if (control->part[0] && !strstr(path, control->part)) return 0;
    if (!(control->mask & kind)) return 0;
    uint64_t number = __atomic_add_fetch(&control->seen, 1, __ATOMIC_SEQ_CST);
    if (number < control->first || number - control->first >= control->count) return 0;
    uint64_t hit = __atomic_fetch_add(&control->hits, 1, __ATOMIC_SEQ_CST);
    if (shorter && control->cut && hit % 2 == 0) {
        *shorter = 1;
        return 0;
    }
    errno = (int)control->error;
    return 1;
}

static int is_armed(void) {
    return control && __atomic_load_n(&control->armed, __ATOMIC_SEQ_CST);
}

static int fd_fails(unsigned kind, int fd, int *shorter) {
    if (!is_armed()) return 0;
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int kept = errno;
    long len = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
    errno = kept;
    if (len <= 0) return 0;
    path[len] = 0;
    return fails(kind, path, shorter);
}

static int path_fails(unsigned kind, int at, const char *name) {
    if (!is_armed() || !name || !name[0]) return 0;
    char path[PATH_MAX * 2];
    if (name[0] == '/') {
        if (strlen(name) >= sizeof path) return 0;
        strcpy(path, name);
    } else {
        long len = at == AT_FDCWD ? syscall(SYS_getcwd, path, PATH_MAX) : -1;
        if (len <= 0 || strlen(name) >= PATH_MAX) return 0;
        path[len - 1] = '/';
        strcpy(path + len, name);
    }
    return fails(kind, path, NULL);
}

static int do_open(int at, const char *name, int flags, mode_t mode) {
    /* To open a folder so as to sync it belongs to the opening, too. */
    int writes = (flags & (O_WRONLY | O_RDWR | O_CREAT)) != 0;
    if (path_fails(writes ? OPEN : READ, at, name)) return -1;
    return syscall(SYS_openat, at, name, flags, mode);
}

#define MODE(flags, mode)                                 \
    mode_t mode = 0;                                      \
    if ((flags) & (O_CREAT | __O_TMPFILE)) {              \
        va_list list;                                     \
        va_start(list, flags);                            \
        mode = va_arg(list, mode_t);                      \
        va_end(list);                                     \
    }

int open(const char *name, int flags, ...) { MODE(flags, mode) return do_open(AT_FDCWD, name, flags, mode); }
int open64(const char *name, int flags, ...) { MODE(flags, mode) return do_open(AT_FDCWD, name, flags, mode); }
int openat(int at, const char *name, int flags, ...) { MODE(flags, mode) return do_open(at, name, flags, mode); }
int openat64(int at, const char *name, int flags, ...) { MODE(flags, mode) return do_open(at, name, flags, mode); }

ssize_t write(int fd, const void *from, size_t len) {
    int shorter = 0;
    if (fd_fails(WRITE, fd, &shorter)) return -1;
    return syscall(SYS_write, fd, from, shorter && len > 1 ? len / 2 : len);
}

ssize_t pwrite64(int fd, const void *from, size_t len, off64_t at) {
    int shorter = 0;
    if (fd_fails(WRITE, fd, &shorter)) return -1;
    return syscall(SYS_pwrite64, fd, from, shorter && len > 1 ? len / 2 : len, at);
}
ssize_t pwrite(int fd, const void *from, size_t len, off_t at) { return pwrite64(fd, from, len, at); }

ssize_t writev(int fd, const struct iovec *parts, int count) {
    int shorter = 0;
    if (fd_fails(WRITE, fd, &shorter)) return -1;
    if (shorter && count > 0 && parts[0].iov_len > 1)
        return syscall(SYS_write, fd, parts[0].iov_base, parts[0].iov_len / 2);
    return syscall(SYS_writev, fd, parts, count);
}

ssize_t read(int fd, void *into, size_t len) {
    if (fd_fails(READ, fd, NULL)) return -1;
    return syscall(SYS_read, fd, into, len);
}

int fsync(int fd) { return fd_fails(SYNC, fd, NULL) ? -1 : syscall(SYS_fsync, fd); }
int fdatasync(int fd) { return fd_fails(SYNC, fd, NULL) ? -1 : syscall(SYS_fdatasync, fd); }
int ftruncate64(int fd, off64_t len) { return fd_fails(TRUNCATE, fd, NULL) ? -1 : syscall(SYS_ftruncate, fd, len); }
int ftruncate(int fd, off_t len) { return ftruncate64(fd, len); }

int rename(const char *from, const char *to) {
    if (path_fails(RENAME, AT_FDCWD, to)) return -1;
    return syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int mkdir(const char *name, mode_t mode) {
    if (path_fails(OPEN, AT_FDCWD, name)) return -1;
    return syscall(SYS_mkdirat, AT_FDCWD, name, mode);
}

int unlink(const char *name) {
    if (path_fails(REMOVE, AT_FDCWD, name)) return -1;
    return syscall(SYS_unlinkat, AT_FDCWD, name, 0);
}

int statx(int at, const char *restrict name, int flags, unsigned mask, struct statx *restrict into) {
    if (name[0] ? path_fails(LOOK, at, name) : fd_fails(LOOK, at, NULL)) return -1;
    return syscall(SYS_statx, at, name, flags, mask, into);
}

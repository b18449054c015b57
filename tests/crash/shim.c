// A disk that can fail, for one process: preloaded into dts by tests/crash/faults.rs, which documents the two files.
//
// Every change of a regular file under DTS_FAULT_DIR goes to the file and, before it, with the bytes that it replaces, to
// a journal. fsync only notes that it came. After SIGKILL the test makes of both what a power cut would have left. Names
// (create, rename, unlink) are durable at once and contents are not: the case that careless code gets wrong.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct control {
  volatile int64_t clock_us;    // added to the wall clock
  volatile uint32_t read_only;  // every change is EROFS
  volatile uint32_t write_in;   // the nth write from now fails with EIO; 0 is never
  volatile uint32_t write_times;
  volatile uint32_t sync_in;
  volatile uint32_t sync_times;
  volatile uint32_t failed;     // how often something failed on purpose
  volatile uint32_t writes;
  volatile uint32_t syncs;
};

struct record {
  uint32_t magic, kind;
  uint64_t inode, offset, old_size;
  uint32_t old_len, new_len;
};
enum { WRITE = 1, TRUNCATE, SYNC, SYNC_FAILED, UNLINK };

static struct control *control;
static int journal = -1;
static char root[PATH_MAX];
static size_t root_len;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int (*real_open)(const char *, int, ...);
static int (*real_openat)(int, const char *, int, ...);
static int (*real_ftruncate)(int, off_t);
static int (*real_rename)(const char *, const char *);
static int (*real_unlink)(const char *);

static long raw_write(int fd, const void *b, size_t n) { return syscall(SYS_write, fd, b, n); }

__attribute__((constructor)) static void start(void) {
  real_open = dlsym(RTLD_NEXT, "open64");
  real_openat = dlsym(RTLD_NEXT, "openat64");
  real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
  real_rename = dlsym(RTLD_NEXT, "rename");
  real_unlink = dlsym(RTLD_NEXT, "unlink");
  const char *dir = getenv("DTS_FAULT_DIR"), *page = getenv("DTS_FAULT_CONTROL"), *log = getenv("DTS_FAULT_JOURNAL");
  if (!dir || !page || !log) return;
  root_len = strlen(dir);
  strncpy(root, dir, sizeof root - 1);
  int fd = real_open(page, O_RDWR | O_CLOEXEC);
  void *at = fd < 0 ? MAP_FAILED : mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (at == MAP_FAILED) abort();
  journal = real_open(log, O_WRONLY | O_APPEND | O_CLOEXEC);
  if (journal < 0) abort();
  control = at;
}

static int inside(const char *path) {
  size_t n = strlen(path);
  return control && !strncmp(path, root, root_len) && !(n > 4 && !strcmp(path + n - 4, ".log")) && !(n > 7 && !strcmp(path + n - 7, ".faults"));
}

// Whether a descriptor is a regular file that is looked after.
static int tracked(int fd, struct stat *st) {
  if (!control || fstat(fd, st) || !S_ISREG(st->st_mode)) return 0;
  char link[64], path[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, path, sizeof path - 1);
  if (n <= 0) return 0;
  path[n] = 0;
  return inside(path);
}

static int due(volatile uint32_t *in, volatile uint32_t *times) {
  if (*in == 0) return 0;
  if (*in > 1) { --*in; return 0; }
  if (*times > 1) --*times; else *in = 0;
  control->failed++;
  return 1;
}

static void put(struct record r, const void *old, const void *new) {
  r.magic = 0x64745346;
  struct iovec parts[3] = {{&r, sizeof r}, {(void *)old, r.old_len}, {(void *)new, r.new_len}};
  syscall(SYS_writev, journal, parts, 3);
}

// Notes that `n` bytes at `offset` are about to become `bytes`.
static void note_write(int fd, const struct stat *st, uint64_t offset, const void *bytes, size_t n) {
  uint64_t size = st->st_size, old = offset >= size ? 0 : size - offset;
  if (old > n) old = n;
  char *was = old ? malloc(old) : 0;
  if (old) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int in = real_open(link, O_RDONLY | O_CLOEXEC);
    ssize_t got = in < 0 ? -1 : syscall(SYS_pread64, in, was, old, offset);
    if (got < 0) got = 0;
    old = got;
    if (in >= 0) close(in);
  }
  struct record r = {0, WRITE, st->st_ino, offset, size, (uint32_t)old, (uint32_t)n};
  put(r, was, bytes);
  free(was);
}

static int refuse_write(void) {
  control->writes++;
  if (control->read_only) { control->failed++; errno = EROFS; return 1; }
  if (due(&control->write_in, &control->write_times)) { errno = EIO; return 1; }
  return 0;
}

ssize_t write(int fd, const void *bytes, size_t n) {
  struct stat st;
  if (!tracked(fd, &st)) return raw_write(fd, bytes, n);
  pthread_mutex_lock(&lock);
  ssize_t done = -1;
  if (!refuse_write()) {
    fstat(fd, &st);
    int flags = fcntl(fd, F_GETFL);
    uint64_t at = flags & O_APPEND ? (uint64_t)st.st_size : (uint64_t)lseek(fd, 0, SEEK_CUR);
    note_write(fd, &st, at, bytes, n);
    done = raw_write(fd, bytes, n);
  }
  int e = errno;
  pthread_mutex_unlock(&lock);
  errno = e;
  return done;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
  struct stat st;
  if (!tracked(fd, &st)) return syscall(SYS_writev, fd, parts, count);
  for (int i = 0; i < count; i++)
    if (parts[i].iov_len) return write(fd, parts[i].iov_base, parts[i].iov_len);
  return 0;
}

ssize_t pwrite64(int fd, const void *bytes, size_t n, off_t offset) {
  struct stat st;
  if (!tracked(fd, &st)) return syscall(SYS_pwrite64, fd, bytes, n, offset);
  pthread_mutex_lock(&lock);
  ssize_t done = -1;
  if (!refuse_write()) {
    fstat(fd, &st);
    note_write(fd, &st, offset, bytes, n);
    done = syscall(SYS_pwrite64, fd, bytes, n, offset);
  }
  int e = errno;
  pthread_mutex_unlock(&lock);
  errno = e;
  return done;
}
ssize_t pwrite(int fd, const void *bytes, size_t n, off_t offset) { return pwrite64(fd, bytes, n, offset); }

static void note_truncate(int fd, const struct stat *st, uint64_t size) {
  uint64_t cut = (uint64_t)st->st_size > size ? st->st_size - size : 0;
  char *was = cut ? malloc(cut) : 0;
  if (cut) {
    ssize_t got = syscall(SYS_pread64, fd, was, cut, size);
    cut = got < 0 ? 0 : got;
  }
  struct record r = {0, TRUNCATE, st->st_ino, size, st->st_size, (uint32_t)cut, 0};
  put(r, was, 0);
  free(was);
}

int ftruncate64(int fd, off_t size) {
  struct stat st;
  if (!tracked(fd, &st)) return real_ftruncate(fd, size);
  pthread_mutex_lock(&lock);
  int done = -1;
  if (!refuse_write()) {
    fstat(fd, &st);
    note_truncate(fd, &st, size);
    done = real_ftruncate(fd, size);
  }
  int e = errno;
  pthread_mutex_unlock(&lock);
  errno = e;
  return done;
}
int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

static int sync_one(int fd) {
  struct stat st;
  if (!tracked(fd, &st)) return 0;
  pthread_mutex_lock(&lock);
  control->syncs++;
  int failed = due(&control->sync_in, &control->sync_times);
  struct record r = {0, failed ? SYNC_FAILED : SYNC, st.st_ino, 0, 0, 0, 0};
  put(r, 0, 0);
  pthread_mutex_unlock(&lock);
  if (failed) errno = EIO;
  return failed ? -1 : 0;
}
int fsync(int fd) { return sync_one(fd); }
int fdatasync(int fd) { return sync_one(fd); }

static int opened(int dir, const char *path, int flags, mode_t mode) {
  int changes = (flags & O_ACCMODE) != O_RDONLY || flags & (O_CREAT | O_TRUNC);
  if (!inside(path) || !changes) return dir == AT_FDCWD ? real_open(path, flags, mode) : real_openat(dir, path, flags, mode);
  if (control->read_only) { control->failed++; errno = EROFS; return -1; }
  int cut = flags & O_TRUNC;
  int fd = real_open(path, (flags & ~O_TRUNC), mode);
  if (fd >= 0 && cut) {
    struct stat st;
    int in = real_open(path, O_RDONLY | O_CLOEXEC);
    pthread_mutex_lock(&lock);
    if (in >= 0 && !fstat(in, &st) && st.st_size > 0) {
      note_truncate(in, &st, 0);
      real_ftruncate(fd, 0);
    }
    pthread_mutex_unlock(&lock);
    if (in >= 0) close(in);
  }
  return fd;
}

#define MODE                            \
  mode_t mode = 0;                      \
  if (flags & (O_CREAT | O_TMPFILE)) {  \
    va_list more;                       \
    va_start(more, flags);              \
    mode = va_arg(more, mode_t);        \
    va_end(more);                       \
  }
int open64(const char *path, int flags, ...) { MODE return opened(AT_FDCWD, path, flags, mode); }
int open(const char *path, int flags, ...) { MODE return opened(AT_FDCWD, path, flags, mode); }
int openat64(int dir, const char *path, int flags, ...) { MODE return opened(dir, path, flags, mode); }

static void note_gone(const char *path) {
  struct stat st;
  if (stat(path, &st) || !S_ISREG(st.st_mode) || st.st_nlink > 1) return;
  struct record r = {0, UNLINK, st.st_ino, 0, 0, 0, 0};
  put(r, 0, 0);
}

int rename(const char *from, const char *to) {
  if (!inside(to)) return real_rename(from, to);
  if (control->read_only) { errno = EROFS; return -1; }
  pthread_mutex_lock(&lock);
  note_gone(to);
  int done = real_rename(from, to), e = errno;
  pthread_mutex_unlock(&lock);
  errno = e;
  return done;
}

int unlink(const char *path) {
  if (!inside(path)) return real_unlink(path);
  if (control->read_only) { errno = EROFS; return -1; }
  pthread_mutex_lock(&lock);
  note_gone(path);
  int done = real_unlink(path), e = errno;
  pthread_mutex_unlock(&lock);
  errno = e;
  return done;
}

int clock_gettime(clockid_t id, struct timespec *t) {
  int done = syscall(SYS_clock_gettime, id, t);
  if (!done && control && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) {
    int64_t ns = t->tv_sec * 1000000000LL + t->tv_nsec + control->clock_us * 1000LL;
    t->tv_sec = ns / 1000000000LL;
    t->tv_nsec = ns % 1000000000LL;
  }
  return done;
}
int gettimeofday(struct timeval *restrict t, void *restrict zone) {
  (void)zone;
  struct timespec now;
  if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
  t->tv_sec = now.tv_sec;
  t->tv_usec = now.tv_nsec / 1000;
  return 0;
}
time_t time(time_t *to) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (to) *to = now.tv_sec;
  return now.tv_sec;
}

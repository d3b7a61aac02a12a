/* What newlib asks of an operating system, where there is none. The linker drops what is not used.
 * There is no heap: all memory of a firmware is static, so that it can be counted before it runs. */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

void hal_exit(int status) __attribute__((noreturn));

void *_sbrk(ptrdiff_t increment);
int _write(int file, const char *data, int length);
int _read(int file, char *data, int length);
int _close(int file);
int _lseek(int file, int offset, int whence);
int _fstat(int file, struct stat *status);
int _isatty(int file);
int _getpid(void);
int _kill(int pid, int signal);
void _exit(int status) __attribute__((noreturn));
void _init(void);
void _fini(void);

static int refuse(int error) {
    errno = error;
    return -1;
}

void *_sbrk(ptrdiff_t increment) {
    (void)increment;
    errno = ENOMEM;
    return (void *)-1;
}

int _write(int file, const char *data, int length) {
    (void)file, (void)data;
    return length; /* nowhere to go: dropped */
}

int _read(int file, char *data, int length) {
    (void)file, (void)data, (void)length;
    return 0;
}

int _close(int file) {
    (void)file;
    return refuse(EBADF);
}

int _lseek(int file, int offset, int whence) {
    (void)file, (void)offset, (void)whence;
    return refuse(ESPIPE);
}

int _fstat(int file, struct stat *status) {
    (void)file;
    status->st_mode = S_IFCHR;
    return 0;
}

int _isatty(int file) {
    (void)file;
    return 1;
}

int _getpid(void) {
    return 1;
}

int _kill(int pid, int signal) {
    (void)pid, (void)signal;
    return refuse(EINVAL);
}

void _exit(int status) {
    hal_exit(status);
}

void _init(void) {
}

void _fini(void) {
}

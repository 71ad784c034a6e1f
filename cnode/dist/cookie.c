#include "dist/cookie.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum { COOKIE_MAX = 255, MADE_LENGTH = 20 };

struct cookie_error {
    char *text;
    size_t size;
};

/* Checks the characters and copies. `where` begins the sentence of an error. */
static bool take(const char *text, size_t n, const char *where, char **cookie, const struct cookie_error *e)
{
    if (n == 0) {
        snprintf(e->text, e->size, "%s is empty", where);
        return false;
    }
    if (n > COOKIE_MAX) {
        snprintf(e->text, e->size, "%s is longer than %d characters", where, COOKIE_MAX);
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c < 0x20 || c == 0x7f) {
            snprintf(e->text, e->size, "%s has a control character at position %zu", where, i + 1);
            return false;
        }
    }
    *cookie = strndup(text, n);
    if (*cookie == NULL)
        snprintf(e->text, e->size, "no memory for the cookie");
    return *cookie != NULL;
}

static bool check_file(int fd, const char *path, const struct cookie_error *e)
{
    struct stat st;

    if (fstat(fd, &st) < 0) {
        snprintf(e->text, e->size, "cookie file %s: %s", path, strerror(errno));
        return false;
    }
    if (!S_ISREG(st.st_mode)) {
        snprintf(e->text, e->size, "cookie file %s is not a regular file", path);
        return false;
    }
    if (st.st_mode & 077) {
        snprintf(e->text, e->size, "cookie file %s must be accessible by its owner only (chmod 400 %s)", path, path);
        return false;
    }
    return true;
}

/* One more byte than a good file has at most, so that a longer one is noticed. */
static ssize_t read_some(int fd, char *text, size_t size)
{
    size_t have = 0;

    while (have < size) {
        ssize_t n = read(fd, text + have, size - have);
        if (n < 0 && errno != EINTR)
            return -1;
        if (n == 0)
            break;
        if (n > 0)
            have += (size_t)n;
    }
    return (ssize_t)have;
}

static bool read_file(int fd, const char *path, char **cookie, const struct cookie_error *e)
{
    char text[COOKIE_MAX + 3];
    char where[PATH_MAX + 32];
    ssize_t n;

    if (!check_file(fd, path, e))
        return false;
    n = read_some(fd, text, sizeof(text));
    if (n < 0) {
        snprintf(e->text, e->size, "cookie file %s: %s", path, strerror(errno));
        return false;
    }
    if (n > 0 && text[n - 1] == '\n')
        n--;
    if (n > 0 && text[n - 1] == '\r')
        n--;
    snprintf(where, sizeof(where), "the cookie in %s", path);
    return take(text, (size_t)n, where, cookie, e);
}

/* 1: read; 0: there is no such file; -1: error. */
static int try_file(const char *path, char **cookie, const struct cookie_error *e)
{
    bool ok;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
        return 0;
    if (fd < 0) {
        snprintf(e->text, e->size, "cookie file %s: %s", path, strerror(errno));
        return -1;
    }
    ok = read_file(fd, path, cookie, e);
    close(fd);
    return ok ? 1 : -1;
}

static bool random_letters(char *text, size_t n)
{
    uint8_t bytes[64];
    size_t have = 0;

    while (have < n) {
        ssize_t got = getrandom(bytes, sizeof(bytes), 0);
        if (got < 0 && errno != EINTR)
            return false;
        for (ssize_t i = 0; i < got && have < n; i++) {
            if (bytes[i] < 26 * 9) /* the largest multiple of 26: no letter is likelier than another */
                text[have++] = (char)('A' + bytes[i] % 26);
        }
    }
    text[n] = '\0';
    return true;
}

/* Written under another name and linked into place: a node that starts at the same moment sees a whole file or none. */
static bool make_file(const char *path, const struct cookie_error *e)
{
    char text[MADE_LENGTH + 1];
    char temporary[PATH_MAX];
    bool ok;
    int fd;

    if ((size_t)snprintf(temporary, sizeof(temporary), "%s.XXXXXX", path) >= sizeof(temporary)) {
        snprintf(e->text, e->size, "the name of the home directory is too long");
        return false;
    }
    fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0) {
        snprintf(e->text, e->size, "cannot make cookie file %s: %s", path, strerror(errno));
        return false;
    }
    ok = random_letters(text, MADE_LENGTH) && write(fd, text, MADE_LENGTH) == MADE_LENGTH && fchmod(fd, 0400) == 0 &&
         (link(temporary, path) == 0 || errno == EEXIST);
    if (!ok)
        snprintf(e->text, e->size, "cannot make cookie file %s: %s", path, strerror(errno));
    unlink(temporary);
    close(fd);
    return ok;
}

static const char *home(void)
{
    const char *dir = getenv("HOME");
    const struct passwd *pw;

    if (dir != NULL && dir[0] != '\0')
        return dir;
    pw = getpwuid(getuid());
    return pw ? pw->pw_dir : NULL;
}

static int try_config_dir(const char *dir, char **cookie, const struct cookie_error *e)
{
    const char *config = getenv("XDG_CONFIG_HOME");
    char path[PATH_MAX];
    int n;

    if (config != NULL && config[0] != '\0')
        n = snprintf(path, sizeof(path), "%s/erlang/.erlang.cookie", config);
    else
        n = snprintf(path, sizeof(path), "%s/.config/erlang/.erlang.cookie", dir);
    return n > 0 && (size_t)n < sizeof(path) ? try_file(path, cookie, e) : 0;
}

static bool from_home(char **cookie, const struct cookie_error *e)
{
    const char *dir = home();
    char path[PATH_MAX];
    int found;

    if (dir == NULL) {
        snprintf(e->text, e->size, "no cookie given, and no home directory to look for one");
        return false;
    }
    if ((size_t)snprintf(path, sizeof(path), "%s/.erlang.cookie", dir) >= sizeof(path)) {
        snprintf(e->text, e->size, "the name of the home directory is too long");
        return false;
    }
    found = try_file(path, cookie, e);
    if (found == 0)
        found = try_config_dir(dir, cookie, e);
    if (found != 0)
        return found > 0;
    if (!make_file(path, e))
        return false;
    found = try_file(path, cookie, e);
    if (found == 0)
        snprintf(e->text, e->size, "cookie file %s vanished while it was made", path);
    return found > 0;
}

bool pyn_cookie_read(const char *given, char **cookie, char *error, size_t error_size)
{
    const struct cookie_error e = {error, error_size};
    const char *env;

    *cookie = NULL;
    if (given != NULL)
        return take(given, strlen(given), "the given cookie", cookie, &e);
    env = getenv("PYNODE_COOKIE");
    if (env != NULL)
        return take(env, strlen(env), "PYNODE_COOKIE", cookie, &e);
    return from_home(cookie, &e);
}

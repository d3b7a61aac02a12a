/* A set-associative cache that knows tags only, not contents. All lines start invalid. */
#ifndef TINYHIL_CACHE_H
#define TINYHIL_CACHE_H

#include <stdbool.h>
#include <stdint.h>

enum replacement { ROUND_ROBIN, LEAST_RECENTLY_USED };

enum { KNOWN_LINES = 256 };

struct known_line {
    uint32_t line;
    uint32_t owner;
};

struct cache {
    uint32_t line_shift; /* log2 of the bytes in a line */
    uint32_t sets;       /* a power of two; 0: there is no cache, every access goes to memory */
    uint32_t ways;
    enum replacement replacement;
    uint32_t *tags; /* sets x ways line numbers; with LRU the most recent comes first */
    uint8_t *dirty; /* the same shape: written since it was filled */
    uint8_t *owner; /* the same shape: the region the line belongs to */
    uint8_t *next;  /* one per set: the way that round robin replaces next */
    uint32_t fills; /* how many lines were filled so far: while it stands still, nothing was evicted */
    uint32_t last;  /* the line that was touched last */
    struct known_line known[2][KNOWN_LINES]; /* lines that a load [0] or a store [1] would hit */
};

struct cache_access {
    bool miss;
    bool evicted_dirty;    /* the miss pushed a written line out */
    uint8_t evicted_owner; /* and this is the region it goes back to */
};

/* "SIZE:WAYS:LINE:rr|lru", bytes; SIZE 0 is "off". False if the text makes no sense. */
bool cache_parse(struct cache *cache, const char *text);

/* Looks a line up and fills it if it is not there. */
struct cache_access cache_touch(struct cache *cache, uint32_t line, bool store, uint8_t owner);

/* The owner of `line` if another look at it would be a hit and change nothing, otherwise -1: exact,
 * and much faster than cache_touch. For a store the line must also be marked as written already. */
static inline int cache_owner(const struct cache *cache, uint32_t line, bool store) {
    const struct known_line *known = &cache->known[store][line & (KNOWN_LINES - 1)];
    return known->line == line ? (int)known->owner : -1;
}

#endif

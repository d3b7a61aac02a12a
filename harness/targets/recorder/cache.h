/* A set-associative cache that knows tags only, not contents. All lines start invalid. */
#ifndef TINYHIL_CACHE_H
#define TINYHIL_CACHE_H

#include <stdbool.h>
#include <stdint.h>

enum replacement { ROUND_ROBIN, LEAST_RECENTLY_USED };

struct cache {
    uint32_t line_shift; /* log2 of the bytes in a line */
    uint32_t sets;       /* a power of two; 0: there is no cache, every access goes to memory */
    uint32_t ways;
    enum replacement replacement;
    uint32_t *tags; /* sets x ways line numbers; with LRU the most recent comes first */
    uint8_t *dirty; /* the same shape: written since it was filled */
    uint8_t *owner; /* the same shape: the region the line belongs to */
    uint8_t *next;  /* one per set: the way that round robin replaces next */
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

#endif

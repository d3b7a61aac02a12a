#include "cache.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INVALID UINT32_MAX /* no line has this number: lines are at least two bytes long */

static bool power_of_two(uint32_t value) { return value && !(value & (value - 1)); }

bool cache_parse(struct cache *cache, const char *text) {
    unsigned size, ways, line;
    char policy[4];
    if (sscanf(text, "%u:%u:%u:%3s", &size, &ways, &line, policy) != 4)
        return false;
    if (!power_of_two(line) || line < 4 || !ways || ways > 255 || size % (line * ways))
        return false;
    if (strcmp(policy, "rr") && strcmp(policy, "lru"))
        return false;
    uint32_t sets = size / (line * ways);
    if (sets && !power_of_two(sets))
        return false;
    cache->line_shift = (uint32_t)__builtin_ctz(line);
    cache->sets = sets;
    cache->ways = ways;
    cache->replacement = strcmp(policy, "lru") ? ROUND_ROBIN : LEAST_RECENTLY_USED;
    size_t lines = (size_t)sets * ways;
    cache->tags = malloc(lines * sizeof *cache->tags + 1);
    cache->dirty = calloc(1, lines + 1);
    cache->owner = calloc(1, lines + 1);
    cache->next = calloc(1, sets + 1);
    if (!cache->tags || !cache->dirty || !cache->owner || !cache->next)
        return false;
    memset(cache->tags, 0xff, lines * sizeof *cache->tags);
    memset(cache->known, 0xff, sizeof cache->known);
    cache->last = INVALID;
    return true;
}

/* Moves `way` to the front of its set, so that the last way is the least recently used one. */
static void promote(struct cache *cache, size_t first, uint32_t way) {
    uint32_t tag = cache->tags[first + way];
    uint8_t dirty = cache->dirty[first + way], owner = cache->owner[first + way];
    memmove(&cache->tags[first + 1], &cache->tags[first], way * sizeof *cache->tags);
    memmove(&cache->dirty[first + 1], &cache->dirty[first], way);
    memmove(&cache->owner[first + 1], &cache->owner[first], way);
    cache->tags[first] = tag;
    cache->dirty[first] = dirty;
    cache->owner[first] = owner;
}

static void forget(struct cache *cache, uint32_t line) {
    for (int store = 0; store < 2; store++) {
        struct known_line *known = &cache->known[store][line & (KNOWN_LINES - 1)];
        if (known->line == line)
            known->line = INVALID;
    }
}

/* Under LRU every hit changes the order, so only the line that was touched last stays known. */
static void remember(struct cache *cache, uint32_t line, bool store, uint8_t owner) {
    struct known_line known = {line, owner};
    if (cache->replacement == LEAST_RECENTLY_USED && line != cache->last)
        forget(cache, cache->last);
    cache->last = line;
    cache->known[0][line & (KNOWN_LINES - 1)] = known;
    if (store)
        cache->known[1][line & (KNOWN_LINES - 1)] = known;
}

struct cache_access cache_touch(struct cache *cache, uint32_t line, bool store, uint8_t owner) {
    struct cache_access result = {.miss = true};
    if (!cache->sets)
        return result;
    uint32_t set = line & (cache->sets - 1);
    size_t first = (size_t)set * cache->ways;
    bool lru = cache->replacement == LEAST_RECENTLY_USED;
    uint32_t way = 0;
    while (way < cache->ways && cache->tags[first + way] != line)
        way++;
    if (way < cache->ways) {
        result.miss = false;
        cache->dirty[first + way] |= store;
        if (lru && way)
            promote(cache, first, way);
        remember(cache, line, store, owner);
        return result;
    }
    way = lru ? cache->ways - 1 : cache->next[set];
    result.evicted_dirty = cache->tags[first + way] != INVALID && cache->dirty[first + way];
    result.evicted_owner = cache->owner[first + way];
    forget(cache, cache->tags[first + way]);
    cache->tags[first + way] = line;
    cache->dirty[first + way] = store;
    cache->owner[first + way] = owner;
    cache->fills++;
    if (lru)
        promote(cache, first, way);
    else
        cache->next[set] = (uint8_t)((way + 1) % cache->ways);
    remember(cache, line, store, owner);
    return result;
}

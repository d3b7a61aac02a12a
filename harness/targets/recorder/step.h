/* What happens when a block is entered: it is counted, and so are the step that led there, the
 * predictor's mistake and the lines of code that the instruction cache lacked. */
#ifndef TINYHIL_STEP_H
#define TINYHIL_STEP_H

#include "block.h"
#include "cache.h"

enum { PREDICTORS = 4096 };

/* All zeros is the state at reset. */
struct stepper {
    bool edges; /* count steps, run the predictor */
    bool fetch; /* simulate the instruction cache */
    struct cache icache;
    int8_t counters[PREDICTORS]; /* the branch predictor; 0: weakly "not taken" */
    struct block *previous; /* the block that ran last, NULL before the first */
};

void step_into(struct stepper *stepper, struct block *block);

#endif

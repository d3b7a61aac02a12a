/* What layers that call CMSIS-NN share. */
#ifndef CMSIS_NN_LAYER_H
#define CMSIS_NN_LAYER_H

#include <arm_nnfunctions.h>

/* Whatever the library's functions returned in this run, or-ed together; 0 is success. */
extern int cmsis_nn_status;

#endif

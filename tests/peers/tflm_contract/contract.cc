/* What an operator does here: it is counted. */
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"

TfLiteStatus tflite::ContractInvoke(TfLiteContext *, TfLiteNode *node) {
  ++*node->invoked;
  return kTfLiteOk;
}

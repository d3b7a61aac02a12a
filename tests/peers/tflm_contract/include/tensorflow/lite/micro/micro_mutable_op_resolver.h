/* The part of TFLM's operator resolver that the engine tflm uses: our own, and strict about what is added. */
#ifndef CONTRACT_RESOLVER_H
#define CONTRACT_RESOLVER_H

#include <stddef.h>
#include <stdint.h>

#include "tensorflow/lite/schema/schema_generated.h"

enum TfLiteStatus { kTfLiteOk = 0, kTfLiteError = 1 };

struct TfLiteContext {
  int unused;
};

struct TfLiteNode {
  unsigned *invoked; /* how many operators ran in this inference */
};

struct TfLiteTensor {
  union {
    char *raw;
  } data;
  size_t bytes;
};

struct TFLMRegistration {
  TfLiteStatus (*invoke)(TfLiteContext *context, TfLiteNode *node);
};

namespace tflite {

class MicroOpResolver {
 public:
  virtual const TFLMRegistration *FindOp(BuiltinOperator op) const = 0;
  virtual const TFLMRegistration *FindOp(const char *name) const = 0;
  virtual ~MicroOpResolver() {}
};

TfLiteStatus ContractInvoke(TfLiteContext *context, TfLiteNode *node);

template <unsigned int capacity>
class MicroMutableOpResolver : public MicroOpResolver {
 public:
  const TFLMRegistration *FindOp(BuiltinOperator op) const override {
    for (unsigned i = 0; i < count_; i++) {
      if (operators_[i] == op) return &registrations_[i];
    }
    return nullptr;
  }
  const TFLMRegistration *FindOp(const char *) const override { return nullptr; }

  TfLiteStatus AddAdd() { return Register(BuiltinOperator_ADD); }
  TfLiteStatus AddAveragePool2D() { return Register(BuiltinOperator_AVERAGE_POOL_2D); }
  TfLiteStatus AddConv2D() { return Register(BuiltinOperator_CONV_2D); }
  TfLiteStatus AddReshape() { return Register(BuiltinOperator_RESHAPE); }
  TfLiteStatus AddSoftmax() { return Register(BuiltinOperator_SOFTMAX); }

 private:
  /* Each operator once, and no more of them than was asked for. */
  TfLiteStatus Register(BuiltinOperator op) {
    if (FindOp(op) != nullptr || count_ == capacity) return kTfLiteError;
    operators_[count_] = op;
    registrations_[count_++].invoke = ContractInvoke;
    return kTfLiteOk;
  }

  unsigned count_ = 0;
  BuiltinOperator operators_[capacity];
  TFLMRegistration registrations_[capacity];
};

}  // namespace tflite

#endif

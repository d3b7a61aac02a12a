/* The part of TFLM's interpreter that the engine tflm uses. It runs the operators that the test names in
 * CONTRACT_OPERATORS, needs CONTRACT_NEEDED bytes of arena, and its output is its input plus one per operator. */
#ifndef CONTRACT_INTERPRETER_H
#define CONTRACT_INTERPRETER_H

#include <string.h>

#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"

namespace tflite {

class MicroInterpreter {
 public:
  MicroInterpreter(const Model *model, const MicroOpResolver &resolver, uint8_t *arena, size_t size)
      : model_(model), resolver_(resolver), arena_(arena), size_(size) {}

  /* Touches all it needs, from both ends as TFLM does. */
  TfLiteStatus AllocateTensors() {
    if (memcmp(model_->bytes + 4, "TFL3", 4) != 0) return kTfLiteError;
    if ((uintptr_t)model_ % 16 != 0 || (uintptr_t)arena_ % 16 != 0) return kTfLiteError;
    if (size_ < CONTRACT_NEEDED) return kTfLiteError;
    arena_[0] = 1;
    arena_[size_ - 1] = 1;
    for (unsigned i = 0; i < sizeof kOperators / sizeof kOperators[0]; i++) {
      registrations_[i] = resolver_.FindOp(static_cast<BuiltinOperator>(kOperators[i]));
      if (registrations_[i] == nullptr) return kTfLiteError;
    }
    input_.data.raw = reinterpret_cast<char *>(arena_) + 16;
    output_.data.raw = input_.data.raw + CONTRACT_INPUT;
    input_.bytes = CONTRACT_INPUT;
    output_.bytes = CONTRACT_OUTPUT;
    return kTfLiteOk;
  }

  TfLiteStatus Invoke() {
    unsigned invoked = 0;
    TfLiteContext context = {0};
    TfLiteNode node = {&invoked};
    for (const TFLMRegistration *registration : registrations_) {
      if (registration->invoke(&context, &node) != kTfLiteOk) return kTfLiteError;
    }
    for (size_t i = 0; i < output_.bytes; i++) {
      output_.data.raw[i] = static_cast<char>(input_.data.raw[i % input_.bytes] + invoked);
    }
    return kTfLiteOk;
  }

  TfLiteTensor *input(size_t) { return &input_; }
  TfLiteTensor *output(size_t) { return &output_; }

 private:
  static constexpr int kOperators[] = {CONTRACT_OPERATORS};
  const Model *model_;
  const MicroOpResolver &resolver_;
  uint8_t *arena_;
  size_t size_;
  TfLiteTensor input_, output_;
  const TFLMRegistration *registrations_[sizeof kOperators / sizeof kOperators[0]];
};

}  // namespace tflite

#endif

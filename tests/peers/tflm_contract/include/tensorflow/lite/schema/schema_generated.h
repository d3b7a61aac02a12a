/* The part of TensorFlow Lite's schema header that the engine tflm uses. The numbers are the schema's. */
#ifndef CONTRACT_SCHEMA_H
#define CONTRACT_SCHEMA_H

namespace tflite {

enum BuiltinOperator {
  BuiltinOperator_ADD = 0,
  BuiltinOperator_AVERAGE_POOL_2D = 1,
  BuiltinOperator_CONV_2D = 3,
  BuiltinOperator_RESHAPE = 22,
  BuiltinOperator_SOFTMAX = 25,
};

struct Model {
  unsigned char bytes[8];
};

inline const Model *GetModel(const void *data) { return static_cast<const Model *>(data); }

}  // namespace tflite

#endif

/* The part of TFLM's recording interpreter that the engine tflm uses. */
#ifndef CONTRACT_RECORDING_H
#define CONTRACT_RECORDING_H

#include "tensorflow/lite/micro/micro_interpreter.h"

namespace tflite {

struct ContractArena {
  size_t GetNonPersistentUsedBytes() const { return CONTRACT_WORKING; }
};

struct RecordingMicroAllocator {
  const ContractArena *GetSimpleMemoryAllocator() const { return &arena; }
  ContractArena arena;
};

class RecordingMicroInterpreter : public MicroInterpreter {
 public:
  using MicroInterpreter::MicroInterpreter;
  const RecordingMicroAllocator &GetMicroAllocator() const { return allocator_; }

 private:
  RecordingMicroAllocator allocator_;
};

}  // namespace tflite

#endif

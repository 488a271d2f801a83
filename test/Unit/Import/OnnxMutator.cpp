//===- OnnxMutator.cpp - changes to models that leave them models ---------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "OnnxMutator.h"
#include <cmath>
#include <iterator>
#include <onnx/onnx_pb.h>
#include <random>
#include <string>
#include <vector>

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

namespace {

/// A field that is set, of one of the messages in a model.
struct Place {
  Message *message;
  const FieldDescriptor *field;
};

class Mutator {
public:
  explicit Mutator(unsigned seed) : random(seed) {}

  void run(onnx::ModelProto &model) {
    for (int changes = 1 + below(3); changes > 0; --changes) {
      places.clear();
      strings.clear();
      collect(model);
      if (!places.empty())
        change(places[below(places.size())]);
    }
  }

private:
  size_t below(size_t bound) { return random() % bound; }

  void collect(Message &message) {
    const Reflection *reflection = message.GetReflection();
    std::vector<const FieldDescriptor *> fields;
    reflection->ListFields(message, &fields);
    for (const FieldDescriptor *field : fields) {
      places.push_back({&message, field});
      const bool repeated = field->is_repeated();
      const int count = repeated ? reflection->FieldSize(message, field) : 1;
      if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE)
        for (int i = 0; i < count; ++i)
          collect(repeated ? *reflection->MutableRepeatedMessage(&message, field, i)
                           : *reflection->MutableMessage(&message, field));
      else if (field->type() == FieldDescriptor::TYPE_STRING)
        for (int i = 0; i < count; ++i)
          strings.push_back(repeated ? reflection->GetRepeatedString(message, field, i)
                                     : reflection->GetString(message, field));
    }
  }

  int64_t number(int64_t old) {
    static const int64_t values[] = {0,  1,   2,    3,     4,       7,          8,          13,        16,       64,
                                     -1, -2,  -3,   127,   1 << 16, 1LL << 31,  1LL << 32,  INT64_MAX, INT64_MIN, INT32_MIN,
                                     10, 100, 1024, 65535, 1 << 24, 1LL << 40};
    switch (below(4)) {
    case 0:
      return static_cast<int64_t>(static_cast<uint64_t>(old) + 1);
    case 1:
      return static_cast<int64_t>(static_cast<uint64_t>(old) - 1);
    default:
      return values[below(std::size(values))];
    }
  }

  /// Another value for a field that holds one, or for element `i` of a repeated one.
  void changeValue(const Place &place, int i) {
    Message *message = place.message;
    const FieldDescriptor *field = place.field;
    const Reflection *reflection = message->GetReflection();
    const bool repeated = field->is_repeated();
    switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
    case FieldDescriptor::CPPTYPE_ENUM: {
      const bool isEnum = field->cpp_type() == FieldDescriptor::CPPTYPE_ENUM;
      const int value = below(4) ? static_cast<int>(below(20)) : static_cast<int>(number(0));
      if (isEnum)
        repeated ? reflection->SetRepeatedEnumValue(message, field, i, value) : reflection->SetEnumValue(message, field, value);
      else
        repeated ? reflection->SetRepeatedInt32(message, field, i, value) : reflection->SetInt32(message, field, value);
      break;
    }
    case FieldDescriptor::CPPTYPE_INT64:
      if (repeated)
        reflection->SetRepeatedInt64(message, field, i, number(reflection->GetRepeatedInt64(*message, field, i)));
      else
        reflection->SetInt64(message, field, number(reflection->GetInt64(*message, field)));
      break;
    case FieldDescriptor::CPPTYPE_UINT64:
      repeated ? reflection->SetRepeatedUInt64(message, field, i, number(0)) : reflection->SetUInt64(message, field, number(0));
      break;
    case FieldDescriptor::CPPTYPE_FLOAT: {
      static const float values[] = {0, -0.0f, 1, -1, 0.5f, 3e38f, 1e-40f, INFINITY, NAN};
      const float value = values[below(std::size(values))];
      repeated ? reflection->SetRepeatedFloat(message, field, i, value) : reflection->SetFloat(message, field, value);
      break;
    }
    case FieldDescriptor::CPPTYPE_STRING: {
      std::string value = repeated ? reflection->GetRepeatedString(*message, field, i) : reflection->GetString(*message, field);
      if (below(4) && !strings.empty())
        value = strings[below(strings.size())];
      else if (below(2) || value.empty())
        value.push_back(static_cast<char>(below(256)));
      else
        value.resize(below(value.size()));
      repeated ? reflection->SetRepeatedString(message, field, i, value) : reflection->SetString(message, field, value);
      break;
    }
    case FieldDescriptor::CPPTYPE_MESSAGE: {
      Message *inner = repeated ? reflection->MutableRepeatedMessage(message, field, i) : reflection->MutableMessage(message, field);
      if (below(8) == 0)
        inner->Clear();
      break;
    }
    default:
      break;
    }
  }

  void change(const Place &place) {
    Message *message = place.message;
    const FieldDescriptor *field = place.field;
    const Reflection *reflection = message->GetReflection();
    if (below(16) == 0) {
      reflection->ClearField(message, field);
      return;
    }
    if (!field->is_repeated()) {
      changeValue(place, 0);
      return;
    }
    const int count = reflection->FieldSize(*message, field);
    const int i = static_cast<int>(below(count)), last = count - 1;
    switch (below(5)) {
    case 0:
      reflection->SwapElements(message, field, i, last);
      reflection->RemoveLast(message, field);
      break;
    case 1:
      reflection->SwapElements(message, field, i, static_cast<int>(below(count)));
      break;
    case 2:
      if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
        Message *added = reflection->AddMessage(message, field);
        added->CopyFrom(reflection->GetRepeatedMessage(*message, field, i));
      } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_INT64) {
        reflection->AddInt64(message, field, reflection->GetRepeatedInt64(*message, field, i));
      } else if (field->type() == FieldDescriptor::TYPE_STRING && !strings.empty()) {
        reflection->AddString(message, field, strings[below(strings.size())]);
      }
      break;
    default:
      changeValue(place, i);
      break;
    }
  }

  std::minstd_rand random;
  std::vector<Place> places;
  std::vector<std::string> strings;
};

} // namespace

size_t zopt::mutateModel(uint8_t *data, size_t size, size_t capacity, unsigned seed) {
  google::protobuf::LogSilencer silence;
  onnx::ModelProto model;
  if (!model.ParseFromArray(data, static_cast<int>(size)))
    return 0;
  Mutator(seed + 1).run(model);
  const size_t bytes = model.ByteSizeLong();
  if (bytes == 0 || bytes > capacity || !model.SerializeToArray(data, static_cast<int>(capacity)))
    return 0;
  return bytes;
}

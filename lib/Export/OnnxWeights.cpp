//===- OnnxWeights.cpp - trained weights back into the model --------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Export/OnnxWeights.h"
#include "zopt/Runtime/Core/DataType.h"
#include "zopt/Runtime/Core/File.h"
#include "zopt/Runtime/Data/SafetensorsFile.h"
#include <cstring>
#include <google/protobuf/io/coded_stream.h>
#include <map>
#include <onnx/onnx_pb.h>
#include <set>
#include <utility>

using namespace zopt::runtime;

namespace {

bool typeOf(int32_t onnxType, DataType &type) {
  switch (onnxType) {
  case onnx::TensorProto::FLOAT:
    type = DataType::F32;
    return true;
  case onnx::TensorProto::FLOAT16:
    type = DataType::F16;
    return true;
  case onnx::TensorProto::BFLOAT16:
    type = DataType::BF16;
    return true;
  case onnx::TensorProto::DOUBLE:
    type = DataType::F64;
    return true;
  default:
    return false;
  }
}

class OnnxExport {
public:
  OnnxExport(std::string modelPath, std::string weightsPath, std::string outputPath, int64_t inlineBytes)
      : modelPath(std::move(modelPath)), weightsPath(std::move(weightsPath)), outputPath(std::move(outputPath)), inlineBytes(inlineBytes) {}

  Status run() {
    Result<InputFile> input = InputFile::open(modelPath);
    if (input.failed())
      return input.getStatus();
    std::string bytes(size_t(input->size()), '\0');
    ZOPT_RETURN_IF_FAILED(input->read(0, bytes.data(), input->size()));
    if (!model.ParseFromString(bytes))
      return inputError(modelPath, ": is not an ONNX model");
    bytes = std::string();
    Result<SafetensorsFile> opened = SafetensorsFile::open(weightsPath);
    if (opened.failed())
      return opened.getStatus();
    weights = std::make_unique<SafetensorsFile>(std::move(*opened));
    std::set<std::string> unused;
    int64_t total = 0;
    for (const SafetensorsTensor &tensor : weights->tensors()) {
      unused.insert(tensor.name);
      total += tensor.bytes;
    }
    for (onnx::TensorProto &tensor : *model.mutable_graph()->mutable_initializer())
      targets.emplace_back(tensor.name(), &tensor);
    // Exporters also keep weights as values of Constant nodes.
    for (onnx::NodeProto &node : *model.mutable_graph()->mutable_node())
      if (node.op_type() == "Constant" && node.output_size() == 1)
        for (onnx::AttributeProto &attribute : *node.mutable_attribute())
          if (attribute.has_t())
            targets.emplace_back(node.output(0), attribute.mutable_t());

    const std::string dataPath = outputPath + ".data";
    if (total > inlineBytes) {
      Result<OutputFile> created = OutputFile::create(dataPath);
      if (created.failed())
        return created.getStatus();
      external = std::make_unique<OutputFile>(std::move(*created));
    }
    for (auto &[name, tensor] : targets) {
      if (const SafetensorsTensor *weight = weights->find(name)) {
        unused.erase(name);
        replace(name, *tensor, *weight);
      } else if (tensor->data_location() == onnx::TensorProto::EXTERNAL) {
        // Constants that lie outside of the model move with it.
        std::string values;
        Status status = valuesOf(*tensor, values);
        if (status.failed())
          add(status.message());
        else
          ZOPT_RETURN_IF_FAILED(put(*tensor, values));
      }
      ZOPT_RETURN_IF_FAILED(failure);
    }
    for (const std::string &name : unused)
      add(concat(modelPath, ": has no initializer '", name, "' for that weight"));
    if (!problems.empty())
      return inputError(problems);
    if (external)
      ZOPT_RETURN_IF_FAILED(external->commit());
    std::string text;
    if (!model.SerializeToString(&text))
      return runtimeError(outputPath, ": the model is too large for protobuf");
    Result<OutputFile> output = OutputFile::create(outputPath);
    if (output.failed())
      return output.getStatus();
    ZOPT_RETURN_IF_FAILED(output->append(text.data(), int64_t(text.size())));
    return output->commit();
  }

private:
  void add(const std::string &text) { problems += (problems.empty() ? "" : "\n") + text; }

  /// A tensor's own values, little-endian.
  Status valuesOf(const onnx::TensorProto &tensor, std::string &values) const {
    if (tensor.data_location() == onnx::TensorProto::EXTERNAL) {
      std::map<std::string, std::string> entries;
      for (const onnx::StringStringEntryProto &entry : tensor.external_data())
        entries[entry.key()] = entry.value();
      size_t slash = modelPath.rfind('/');
      Result<InputFile> file =
          InputFile::open((slash == std::string::npos ? "" : modelPath.substr(0, slash + 1)) + entries["location"]);
      if (file.failed())
        return file.getStatus();
      int64_t offset = std::atoll(entries["offset"].c_str());
      int64_t length = entries.count("length") ? std::atoll(entries["length"].c_str()) : file->size() - offset;
      if (length < 0 || length > file->size())
        return inputError(file->path(), ": has no ", length, " bytes");
      values.resize(size_t(length));
      return file->read(offset, values.data(), length);
    }
    if (tensor.has_raw_data())
      values = tensor.raw_data();
    else
      values.assign(reinterpret_cast<const char *>(tensor.float_data().data()),
                    size_t(tensor.float_data_size()) * sizeof(float));
    return success();
  }

  Status put(onnx::TensorProto &tensor, const std::string &values) {
    tensor.clear_float_data();
    tensor.clear_double_data();
    tensor.clear_int32_data();
    tensor.clear_external_data();
    if (!external) {
      tensor.clear_data_location();
      tensor.set_raw_data(values);
      return success();
    }
    tensor.clear_raw_data();
    tensor.set_data_location(onnx::TensorProto::EXTERNAL);
    auto entry = [&](const char *key, const std::string &value) {
      onnx::StringStringEntryProto *made = tensor.add_external_data();
      made->set_key(key);
      made->set_value(value);
    };
    position = (position + 63) / 64 * 64;
    entry("location", outputPath.substr(outputPath.rfind('/') + 1) + ".data");
    entry("offset", std::to_string(position));
    entry("length", std::to_string(values.size()));
    ZOPT_RETURN_IF_FAILED(external->writeAt(position, values.data(), int64_t(values.size())));
    position += int64_t(values.size());
    return success();
  }

  void replace(const std::string &name, onnx::TensorProto &tensor, const SafetensorsTensor &weight) {
    DataType type;
    if (!typeOf(tensor.data_type(), type))
      return add(concat(modelPath, ": initializer '", name, "' has ONNX's type ", tensor.data_type(),
                        ", which no weight has"));
    std::vector<int64_t> shape(tensor.dims().begin(), tensor.dims().end());
    const bool matrix = shape.size() == 2 && weight.shape.size() == 2;
    bool transposed = matrix && shape != weight.shape && shape[0] == weight.shape[1] && shape[1] == weight.shape[0];
    if (shape != weight.shape && !transposed)
      return add(concat(modelPath, ": initializer '", name, "' has shape ", shapeText(shape), ", but the weight's is ",
                        shapeText(weight.shape)));
    const int64_t elements = elementCount(shape), width = sizeOf(type);
    std::string raw(size_t(weight.bytes), '\0'), values(size_t(elements * width), '\0');
    failure = weights->read(weight, 0, raw.data(), weight.bytes);
    if (failure.failed())
      return;
    convertElements(weight.type, raw.data(), type, values.data(), elements);
    if (transposed) {
      std::string turned(values.size(), '\0');
      for (int64_t row = 0; row < shape[0]; ++row)
        for (int64_t column = 0; column < shape[1]; ++column)
          std::memcpy(turned.data() + (row * shape[1] + column) * width,
                      values.data() + (column * shape[0] + row) * width, size_t(width));
      values = std::move(turned);
    }
    failure = put(tensor, values);
  }

  const std::string modelPath, weightsPath, outputPath;
  const int64_t inlineBytes;
  onnx::ModelProto model;
  std::unique_ptr<SafetensorsFile> weights;
  std::vector<std::pair<std::string, onnx::TensorProto *>> targets;
  std::unique_ptr<OutputFile> external;
  int64_t position = 0; // in it
  std::string problems;
  Status failure;
};

} // namespace

extern "C" int zoptExportOnnx(const char *modelPath, const char *weightsPath, const char *outputPath, long long inlineBytes, char **error) {
  Status status = OnnxExport(modelPath, weightsPath, outputPath, inlineBytes).run();
  if (status.succeeded())
    return 0;
  *error = strdup(status.message().c_str());
  return int(status.kind());
}

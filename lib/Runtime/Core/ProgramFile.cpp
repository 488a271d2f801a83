//===- ProgramFile.cpp - Programs as files --------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Core/ProgramFile.h"
#include "zopt/Runtime/Core/File.h"
#include <cstring>
#include <nlohmann/json.hpp>
#include <xxhash.h>

namespace zopt::runtime {

using nlohmann::json;

// Enumerations travel as their numbers: kProgramVersion changes with them.
#define ZOPT_ENUM_AS_NUMBER(Enum, last)                                                                                \
  static void to_json(json &value, Enum number) { value = int(number); }                                               \
  static void from_json(const json &value, Enum &number) {                                                             \
    int read = value.get<int>();                                                                                       \
    if (read < 0 || read > int(last))                                                                                  \
      throw json::other_error::create(501, "enumeration out of range", &value);                                        \
    number = Enum(read);                                                                                               \
  }
ZOPT_ENUM_AS_NUMBER(DataType, DataType::U32)
ZOPT_ENUM_AS_NUMBER(Tier, Tier::File)
ZOPT_ENUM_AS_NUMBER(MemoryClass, MemoryClass::Buffers)
ZOPT_ENUM_AS_NUMBER(Role, Role::Scalar)
ZOPT_ENUM_AS_NUMBER(InputKind, InputKind::Label)
ZOPT_ENUM_AS_NUMBER(Command::Kind, Command::Kind::Convolution)
ZOPT_ENUM_AS_NUMBER(Convolution::Kind, Convolution::Kind::WeightGrad)
ZOPT_ENUM_AS_NUMBER(Epilogue, Epilogue::GeluGrad)
ZOPT_ENUM_AS_NUMBER(BiasGradient, BiasGradient::OutColumns)
#undef ZOPT_ENUM_AS_NUMBER

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Arena, name, tier, bytes)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Buffer, name, arena, offset, bytes, rankStride, memoryClass, persistent)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(InitialValue, file, offset, bytes, type, splat)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(WeightFile, path, size, fingerprint)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(State, name, role, type, shape, trained, noDecay, init, sourceName, sourcePermutation, tied, bucket, offset, buffer)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Bucket, name, paddedElements, sliceElements, computeType, masterType, gradientType, parametersSharded, optimizerSharded, gradientWhole, trained, parameters, master, gradient, slots, slotNames)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Input, name, kind, type, shape, buffer, limit, hasIgnoreIndex, ignoreIndex)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Output, name, type, shape, buffer)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(MatmulOperand, type, shape, strides)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Kernel, symbol, blockThreads, blockIterations, sharedBytes)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Convolution, kind, strides, dilations, pads, groups)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Command, kind, location, kernel, kernels, buffers, byteOffsets, writes, extent, grain, bytes, elements, id, type, destinationType, accumulate, firstMicroStep, buckets, decays, norms, rates, scale, lhs, rhs, out, bias, epilogue, aux, biasGradient, algorithm, tensors, causal, ownKernels, convolution)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Sequence, name, commands)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Program, version, planHash, model, mode, target, cpu, features, libraries, worldSize,
                                   threads, microBatch, accumSteps, sequenceLength, flops, lossAverageGlobal, learningRate,
                                   schedule, compiled, run, arenas, buffers, weightFiles, states, buckets, inputs,
                                   outputs, kernels, sharedObject, sequences, peakByClass)

namespace {

struct Header {
  char magic[8];
  uint32_t format;
  uint32_t programVersion;
  uint64_t bodyBytes;
  uint64_t checksum;
};
constexpr char kMagic[8] = {'z', 'o', 'p', 't', 'P', 'r', 'o', 'g'};
constexpr uint32_t kFormat = 1;

} // namespace

std::vector<uint8_t> serializeProgram(const Program &program) {
  std::vector<uint8_t> body = json::to_cbor(json(program));
  Header header;
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.format = kFormat;
  header.programVersion = uint32_t(program.version);
  header.bodyBytes = body.size();
  header.checksum = XXH3_64bits(body.data(), body.size());
  std::vector<uint8_t> bytes(sizeof header + body.size());
  std::memcpy(bytes.data(), &header, sizeof header);
  std::memcpy(bytes.data() + sizeof header, body.data(), body.size());
  return bytes;
}

Result<Program> deserializeProgram(const std::vector<uint8_t> &bytes, const std::string &name) {
  Header header;
  if (bytes.size() < sizeof header)
    return inputError(name, ": a program has a header of ", sizeof header, " bytes, but the file has ", bytes.size());
  std::memcpy(&header, bytes.data(), sizeof header);
  if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0)
    return inputError(name, ": is not a compiled program");
  if (header.format != kFormat || header.programVersion != uint32_t(kProgramVersion))
    return inputError(name, ": has format ", header.format, ", version ", header.programVersion, ", but this zrun reads format ", kFormat, ", version ", kProgramVersion);
  if (header.bodyBytes != bytes.size() - sizeof header)
    return inputError(name, ": holds ", bytes.size() - sizeof header, " bytes after its header, which announces ", header.bodyBytes);
  const uint8_t *body = bytes.data() + sizeof header;
  if (XXH3_64bits(body, header.bodyBytes) != header.checksum)
    return inputError(name, ": is damaged, its checksum does not match");
  Program program;
  try {
    program = json::from_cbor(body, body + header.bodyBytes).get<Program>();
  } catch (const std::exception &exception) {
    return inputError(name, ": is not a valid program: ", exception.what());
  }
  if (Status status = verifyProgram(program); status.failed())
    return inputError(name, ": ", status.message());
  return program;
}

Status writeProgram(const Program &program, const std::string &path) {
  std::vector<uint8_t> bytes = serializeProgram(program);
  Result<OutputFile> file = OutputFile::create(path);
  if (file.failed())
    return file.getStatus();
  ZOPT_RETURN_IF_FAILED(file->append(bytes.data(), int64_t(bytes.size())));
  return file->commit();
}

Result<Program> readProgram(const std::string &path) {
  Result<InputFile> file = InputFile::open(path);
  if (file.failed())
    return file.getStatus();
  std::vector<uint8_t> bytes(size_t(file->size()));
  ZOPT_RETURN_IF_FAILED(file->read(0, bytes.data(), file->size()));
  return deserializeProgram(bytes, path);
}

std::string programToText(const Program &program) { return json(program).dump(1); }

} // namespace zopt::runtime

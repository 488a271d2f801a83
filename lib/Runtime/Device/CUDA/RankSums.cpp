//===- RankSums.cpp - sums over ranks on the device -----------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "RankSums.h"
#include "Module.h"
#include "zopt/Runtime/Core/DataType.h"

namespace zopt::runtime::cuda {

namespace {

constexpr int kThreads = 256;

bool isDouble(DataType source, DataType destination) { return source == DataType::F64 || destination == DataType::F64; }

/// Accesses are of at most 16 bytes.
int widest(DataType source, DataType destination) { return isDouble(source, destination) ? 2 : 4; }

class PtxWriter {
public:
  PtxWriter(DataType source, DataType destination, int width) : source(source), destination(destination), width(width), wide(isDouble(source, destination)) {}

  std::string write() {
    const char *sum = wide ? "f64" : "f32";
    text = concat(".version 8.0\n.target sm_80\n.address_size 64\n\n.visible .entry ", rankSumSymbol(source, destination, width),
                  "(.param .u64 p_source, .param .u64 p_workspace, .param .u64 p_destination, .param .u64 p_elements, .param .u32 p_world, .param .u32 p_rank, .param .u32 p_accumulate)\n{\n",
                  "  .reg .pred %p<4>;\n  .reg .b32 %r<8>;\n  .reg .b64 %rd<16>;\n  .reg .b16 %h<8>;\n  .reg .f32 %f<8>;\n  .reg .f64 %d<8>;\n  .reg .", sum, " %sum<8>, %part<8>;\n");
    // rd0: this thread's first element; rd1: elements a rank.
    line("mov.u32 %r0, %ctaid.x");
    line("mov.u32 %r1, %ntid.x");
    line("mov.u32 %r2, %tid.x");
    line("mul.wide.u32 %rd0, %r0, %r1");
    line("cvt.u64.u32 %rd2, %r2");
    line("add.u64 %rd0, %rd0, %rd2");
    line(concat("mul.lo.u64 %rd0, %rd0, ", width));
    line("ld.param.u64 %rd1, [p_elements]");
    line("setp.ge.u64 %p0, %rd0, %rd1");
    line("@%p0 bra DONE");
    line("ld.param.u64 %rd3, [p_source]");
    line("ld.param.u64 %rd4, [p_workspace]");
    line("ld.param.u64 %rd5, [p_destination]");
    line("ld.param.u32 %r3, [p_world]");
    line("ld.param.u32 %r4, [p_rank]");
    line("ld.param.u32 %r5, [p_accumulate]");
    for (int i = 3; i <= 5; ++i)
      line(concat("cvta.to.global.u64 %rd", i, ", %rd", i));
    // rd6: bytes from the start of all parts to this thread's elements of part r6; rd7: bytes of a part.
    line(concat("mul.lo.u64 %rd6, %rd0, ", sizeOf(source)));
    line(concat("mul.lo.u64 %rd7, %rd1, ", sizeOf(source)));
    line("mov.u32 %r6, 0");
    part();
    load(source, "%rd9", "%sum");
    label("LOOP");
    line("add.u32 %r6, %r6, 1");
    line("add.u64 %rd6, %rd6, %rd7");
    line("setp.ge.u32 %p1, %r6, %r3");
    line("@%p1 bra SUMMED");
    part();
    load(source, "%rd9", "%part");
    for (int i = 0; i < width; ++i)
      line(concat("add.rn.", sum, " %sum", i, ", %sum", i, ", %part", i));
    line("bra LOOP");
    label("SUMMED");
    line(concat("mad.lo.u64 %rd10, %rd0, ", sizeOf(destination), ", %rd5"));
    line("setp.eq.u32 %p2, %r5, 0");
    line("@%p2 bra STORE");
    load(destination, "%rd10", "%part");
    for (int i = 0; i < width; ++i)
      line(concat("add.rn.", sum, " %sum", i, ", %part", i, ", %sum", i));
    label("STORE");
    store();
    label("DONE");
    line("ret");
    return text + "}\n";
  }

private:
  void line(const std::string &instruction) { text += "  " + instruction + ";\n"; }
  void label(const char *name) { text += std::string(name) + ":\n"; }

  /// rd9: the address of this thread's elements of part r6.
  void part() {
    line("setp.eq.u32 %p3, %r6, %r4");
    line("selp.b64 %rd8, %rd3, %rd4, %p3");
    line("add.u64 %rd9, %rd8, %rd6");
  }

  static const char *registerOf(DataType type) { return type == DataType::F64 ? "%d" : type == DataType::F32 ? "%f" : "%h"; }
  static const char *accessOf(DataType type) { return type == DataType::F64 ? "f64" : type == DataType::F32 ? "f32" : "b16"; }

  std::string list(const char *prefix) const {
    if (width == 1)
      return concat(prefix, 0);
    std::string names = "{";
    for (int i = 0; i < width; ++i)
      names += concat(i ? ", " : "", prefix, i);
    return names + "}";
  }
  std::string vector() const { return width == 1 ? "" : concat(".v", width); }

  void load(DataType type, const char *address, const char *into) {
    line(concat("ld.global", vector(), ".", accessOf(type), " ", list(registerOf(type)), ", [", address, "]"));
    for (int i = 0; i < width; ++i) {
      std::string from = concat(registerOf(type), i), to = concat(into, i);
      if (type == DataType::BF16) {
        // A bf16 is the upper half of the f32 of its value.
        line(concat("mov.b16 %h7, 0"));
        line(concat("mov.b32 %f", i, ", {%h7, ", from, "}"));
        from = concat("%f", i);
      } else if (type == DataType::F16) {
        line(concat("cvt.f32.f16 %f", i, ", ", from));
        from = concat("%f", i);
      }
      bool narrow = type != DataType::F64;
      line(concat(wide && narrow ? "cvt.f64.f32 " : wide ? "mov.f64 " : "mov.f32 ", to, ", ", from));
    }
  }

  void store() {
    for (int i = 0; i < width; ++i) {
      std::string value = concat("%sum", i);
      if (destination == DataType::F64) {
        line(concat("mov.f64 %d", i, ", ", value));
        continue;
      }
      line(concat(wide ? "cvt.rn.f32.f64 %f" : "mov.f32 %f", i, ", ", value));
      if (destination == DataType::BF16)
        line(concat("cvt.rn.bf16.f32 %h", i, ", %f", i));
      else if (destination == DataType::F16)
        line(concat("cvt.rn.f16.f32 %h", i, ", %f", i));
    }
    line(concat("st.global", vector(), ".", accessOf(destination), " [%rd10], ", list(registerOf(destination))));
  }

  DataType source, destination;
  int width;
  bool wide; // sums in f64
  std::string text;
};

} // namespace

std::string rankSumSymbol(DataType source, DataType destination, int width) { return concat("zopt_sum_", nameOf(source), "_", nameOf(destination), "_", width); }
std::string rankSumPtx(DataType source, DataType destination, int width) { return PtxWriter(source, destination, width).write(); }

RankSums::~RankSums() {
  if (!device.broken)
    for (auto &[key, entry] : entries)
      device.driver.cuModuleUnload(entry.module);
}

Status RankSums::load(DataType source, DataType destination, int width) {
  if (!isFloat(source) || !isFloat(destination))
    return inputError("sums over ranks are of floats, but this one is of ", nameOf(source), " into ", nameOf(destination));
  Entry &entry = entries[{source, destination, width}];
  if (entry.function)
    return success();
  ZOPT_RETURN_IF_FAILED(loadModule(device.driver, rankSumPtx(source, destination, width), entry.module));
  ZOPT_CUDA(device.driver, cuModuleGetFunction, &entry.function, entry.module, rankSumSymbol(source, destination, width).c_str());
  return success();
}

Status RankSums::prepare(DataType source, DataType destination) {
  ZOPT_RETURN_IF_FAILED(load(source, destination, 1));
  return load(source, destination, widest(source, destination));
}

Status RankSums::run(CUstream stream, CUdeviceptr source, DataType sourceType, CUdeviceptr destination, DataType destinationType, CUdeviceptr workspace, int64_t elements, int world, int rank, bool accumulate) {
  if (elements == 0)
    return success();
  int width = widest(sourceType, destinationType);
  auto aligned = [&](CUdeviceptr address, DataType type) { return address % uint64_t(width * sizeOf(type)) == 0; };
  if (elements % width != 0 || !aligned(source, sourceType) || !aligned(workspace, sourceType) || !aligned(destination, destinationType))
    width = 1;
  ZOPT_RETURN_IF_FAILED(load(sourceType, destinationType, width));
  uint64_t count = uint64_t(elements), threads = (count + uint64_t(width) - 1) / uint64_t(width), blocks = (threads + kThreads - 1) / kThreads;
  if (blocks > 0x7fffffff)
    return inputError("a sum of ", elements, " elements a rank is more than a grid holds");
  uint32_t ranks = uint32_t(world), own = uint32_t(rank), adds = accumulate;
  void *parameters[] = {&source, &workspace, &destination, &count, &ranks, &own, &adds};
  ZOPT_CUDA(device.driver, cuLaunchKernel, entries[{sourceType, destinationType, width}].function, unsigned(blocks), 1, 1, kThreads, 1, 1, 0, stream, parameters, nullptr);
  return success();
}

} // namespace zopt::runtime::cuda

//===- Trace.cpp - when each command ran, for Perfetto --------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Monitor/Trace.h"
#include "zopt/Runtime/Core/File.h"
#include "zopt/Runtime/Monitor/Metrics.h"
#include <algorithm>
#include <cstdio>
#include <map>

namespace zopt::runtime {

const char *nameOf(Command::Kind kind) {
  switch (kind) {
  case Command::Kind::Launch:
    return "launch";
  case Command::Kind::Matmul:
    return "matmul";
  case Command::Kind::Attention:
    return "attention";
  case Command::Kind::AttentionGrad:
    return "attention_grad";
  case Command::Kind::Convolution:
    return "convolution";
  case Command::Kind::Copy:
    return "copy";
  case Command::Kind::Zero:
    return "zero";
  case Command::Kind::AllGather:
    return "all_gather";
  case Command::Kind::ReduceScatter:
    return "reduce_scatter";
  case Command::Kind::AllReduce:
    return "all_reduce";
  case Command::Kind::AllReduceScalars:
    return "all_reduce_scalars";
  case Command::Kind::Wait:
    return "wait";
  case Command::Kind::GradientNorm:
    return "gradient_norm";
  case Command::Kind::Update:
    return "update";
  case Command::Kind::ParameterNorms:
    return "parameter_norms";
  }
  return "?";
}

namespace {

using Kind = Command::Kind;

/// Thread ids: collectives come last, because they may need several.
enum Stream : int { Compute = 0, Copies = 1, Collectives = 2 };

Stream streamOf(Kind kind) {
  switch (kind) {
  case Kind::Copy:
  case Kind::Zero:
    return Copies;
  case Kind::AllGather:
  case Kind::ReduceScatter:
  case Kind::AllReduce:
  case Kind::AllReduceScalars:
    return Collectives;
  case Kind::Launch:
  case Kind::Matmul:
  case Kind::Wait:
  case Kind::GradientNorm:
  case Kind::Update:
  case Kind::ParameterNorms:
  case Kind::Attention:
  case Kind::AttentionGrad:
  case Kind::Convolution:
    return Compute;
  }
  return Compute;
}

/// Kernels have names of their own; other commands are told by what they do and to which buffer.
std::string eventName(const Program &program, const Command &command) {
  if (command.kind == Kind::Launch && command.kernel >= 0 && size_t(command.kernel) < program.kernels.size())
    return program.kernels[size_t(command.kernel)].symbol;
  std::string name = nameOf(command.kind);
  if ((command.kind == Kind::Update || command.kind == Kind::ParameterNorms) && command.buckets.size() == 1 && size_t(command.buckets[0]) < program.buckets.size())
    return name + " " + program.buckets[size_t(command.buckets[0])].name;
  // Where a collective or a copy writes: an AllGather's, ReduceScatter's and Copy's second buffer, an AllReduce's first.
  bool second = command.kind == Kind::AllGather || command.kind == Kind::ReduceScatter || command.kind == Kind::Copy || command.kind == Kind::AllReduceScalars;
  if ((streamOf(command.kind) != Compute) && command.buffers.size() > size_t(second)) {
    BufferId buffer = command.buffers[size_t(second)];
    if (buffer >= 0 && size_t(buffer) < program.buffers.size())
      name += " " + program.buffers[size_t(buffer)].name;
  }
  return name;
}

void appendEvent(std::string &text, int64_t rank, int thread, const std::string &name, const char *category, int64_t begin, int64_t end, const Command &command) {
  char numbers[160];
  // Microseconds, to the nanosecond.
  std::snprintf(numbers, sizeof numbers, ",\"cat\":\"%s\",\"ph\":\"X\",\"pid\":%lld,\"tid\":%d,\"ts\":%lld.%03lld,\"dur\":%lld.%03lld", category, (long long)rank, thread, (long long)(begin / 1000),
                (long long)(begin % 1000), (long long)((end - begin) / 1000), (long long)((end - begin) % 1000));
  text += text.empty() ? "{\"name\":" : ",\n{\"name\":";
  appendJson(text, name);
  text += numbers;
  text += ",\"args\":{\"location\":";
  appendJson(text, command.location);
  text += "}}";
}

void appendName(std::string &text, int64_t rank, int thread, const char *kind, const std::string &name) {
  char numbers[80];
  std::snprintf(numbers, sizeof numbers, ",\"ph\":\"M\",\"pid\":%lld,\"tid\":%d", (long long)rank, thread);
  text += text.empty() ? "{\"name\":\"" : ",\n{\"name\":\"";
  text += kind;
  text += '"';
  text += numbers;
  text += ",\"args\":{\"name\":";
  appendJson(text, name);
  text += "}}";
}

} // namespace

std::string traceText(const Program &program, int64_t rank, const TraceBuffer &buffer) {
  // The end of each collective: that of the next wait with its id, as ids are used again in every step.
  std::map<int64_t, size_t> open;
  std::vector<int64_t> ends(buffer.spans.size());
  for (size_t i = 0; i < buffer.spans.size(); ++i) {
    const TraceBuffer::Span &span = buffer.spans[i];
    ends[i] = span.end;
    if (streamOf(span.command->kind) == Collectives && !span.ended)
      open[span.command->id] = i;
    else if (span.command->kind == Kind::Wait)
      if (auto started = open.find(span.command->id); started != open.end()) {
        ends[started->second] = span.end;
        open.erase(started);
      }
  }

  std::string text;
  std::vector<int64_t> laneEnds; // of the collectives' lanes
  for (size_t i = 0; i < buffer.spans.size(); ++i) {
    const TraceBuffer::Span &span = buffer.spans[i];
    Stream stream = streamOf(span.command->kind);
    if (stream == Copies && program.target == "cuda")
      stream = Compute;
    int thread = stream;
    if (stream == Collectives) {
      size_t lane = 0;
      while (lane < laneEnds.size() && laneEnds[lane] > span.begin)
        ++lane;
      laneEnds.resize(std::max(laneEnds.size(), lane + 1));
      laneEnds[lane] = ends[i];
      thread += int(lane);
    }
    const char *category = stream == Compute ? "compute" : stream == Copies ? "copies" : "collectives";
    appendEvent(text, rank, thread, eventName(program, *span.command), category, span.begin, ends[i], *span.command);
  }

  std::string process = "rank " + std::to_string(rank);
  if (buffer.dropped)
    process += " (" + std::to_string(buffer.dropped) + " commands did not fit)";
  appendName(text, rank, Compute, "process_name", process);
  appendName(text, rank, Compute, "thread_name", "compute");
  appendName(text, rank, Copies, "thread_name", "copies");
  for (size_t lane = 0; lane < std::max<size_t>(1, laneEnds.size()); ++lane)
    appendName(text, rank, Collectives + int(lane), "thread_name", lane ? "collectives " + std::to_string(lane + 1) : "collectives");
  return text;
}

Status writeTrace(const std::string &path, const std::vector<std::string> &rankTexts) {
  Result<OutputFile> file = OutputFile::create(path);
  if (file.failed())
    return file.getStatus();
  std::string separator = "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n";
  for (const std::string &text : rankTexts) {
    if (text.empty())
      continue;
    ZOPT_RETURN_IF_FAILED(file->append(separator.data(), int64_t(separator.size())));
    ZOPT_RETURN_IF_FAILED(file->append(text.data(), int64_t(text.size())));
    separator = ",\n";
  }
  std::string end = (separator == ",\n" ? "" : separator) + "\n]}\n";
  ZOPT_RETURN_IF_FAILED(file->append(end.data(), int64_t(end.size())));
  return file->commit();
}

} // namespace zopt::runtime

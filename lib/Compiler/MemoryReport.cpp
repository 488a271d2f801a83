//===- MemoryReport.cpp - planned bytes -----------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Compiler/MemoryReport.h"
#include "zopt/Dialect/Plan/Plan.h"
#include "zopt/Dialect/Zero/Zero.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/JSON.h"

using namespace mlir;

void zopt::printMemoryReport(ModuleOp finalPlan, bool json, llvm::raw_ostream &stream) {
  llvm::SmallVector<std::pair<std::string, int64_t>> classes;
  if (auto peak = finalPlan->getAttrOfType<DictionaryAttr>("plan.peak_by_class"))
    for (NamedAttribute entry : peak)
      classes.push_back({entry.getName().str(), cast<IntegerAttr>(entry.getValue()).getInt()});
  int64_t padding = 0;
  for (auto placed : finalPlan.getOps<plan::PlacedBucketOp>())
    if (auto bucket = SymbolTable::lookupNearestSymbolFrom<zero::BucketOp>(finalPlan, placed.getBucketAttr())) {
      int64_t used = 0;
      for (auto segment : bucket.getSegments().getAsRange<zero::SegmentAttr>())
        used += segment.getElements();
      padding += (int64_t)placed.getPadded() - used;
    }
  if (json) {
    llvm::json::Object arenas, byClass;
    for (auto arena : finalPlan.getOps<plan::ArenaOp>())
      arenas[plan::stringifyTier(arena.getTier())] = (int64_t)arena.getBytes();
    for (auto &[name, bytes] : classes)
      byClass[name] = bytes;
    stream << llvm::json::Value(llvm::json::Object{{"planned_peak", std::move(arenas)}, {"classes", std::move(byClass)}, {"padding_elements", padding}}) << '\n';
    return;
  }
  for (auto arena : finalPlan.getOps<plan::ArenaOp>())
    stream << llvm::format("%-14s %16lld bytes a rank\n", plan::stringifyTier(arena.getTier()).str().c_str(), (long long)arena.getBytes());
  stream << "at the planned peak:\n";
  for (auto &[name, bytes] : classes)
    stream << llvm::format("  %-12s %16lld\n", name.c_str(), (long long)bytes);
  stream << "bucket padding: " << padding << " elements over all ranks\n";
}

//===- DatasetKinds.h - the datasets behind Dataset -------------*- C++ -*-===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef ZOPT_LIB_RUNTIME_DATA_DATASETKINDS_H
#define ZOPT_LIB_RUNTIME_DATA_DATASETKINDS_H

#include "zopt/Runtime/Data/Dataset.h"

namespace zopt::runtime {

Result<std::unique_ptr<Dataset>> openFileDataset(const Program &program, const DatasetOptions &options);
Result<std::unique_ptr<Dataset>> openJsonlDataset(const Program &program, const DatasetOptions &options);
Result<std::unique_ptr<Dataset>> openSyntheticDataset(const Program &program, const DatasetOptions &options);

/// Whether the input is one of those that are made where the data lacks them: attention_mask, position_ids, token_type_ids, in the shapes they usually have.
bool isMadeInput(const Input &input);
/// Whether what would be made is in the input's range.
Status checkMadeInput(const std::string &model, const Input &input);
/// attention_mask: 1, for no sample is padded; position_ids: 0, 1, ... in every row; token_type_ids: 0.
void makeInput(const Input &input, void *destination);

} // namespace zopt::runtime

#endif // ZOPT_LIB_RUNTIME_DATA_DATASETKINDS_H

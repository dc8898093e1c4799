// What both programs need: token ids in, a module from a file, and errors in one sentence.

#pragma once

#include <torch/script.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

using Row = std::vector<int64_t>;

struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// One sentence of what torch says: the interpreter ends with it, below its trace; others begin so.
inline std::string sentence(const std::exception& error) {
  const auto* of_torch = dynamic_cast<const c10::Error*>(&error);
  std::string text = of_torch ? of_torch->what_without_backtrace() : error.what();
  text.erase(text.find_last_not_of(" \n") + 1);
  if (text.find("TorchScript interpreter") != text.npos) return text.substr(text.rfind('\n') + 1);
  return text.substr(0, std::min(text.find('\n'), text.find(". ")));
}

inline int64_t token_id(const std::string& word) {
  int64_t id = -1;
  const char* end = word.data() + word.size();
  const auto [stop, code] = std::from_chars(word.data(), end, id);
  if (code != std::errc() || stop != end || id < 0) throw Error("'" + word + "' is not a token id");
  return id;
}

// One row a line; at least one row, and none of them empty.
inline std::vector<Row> read_rows(std::istream& input) {
  std::vector<Row> rows;
  for (std::string line, word; std::getline(input, line);) {
    Row& row = rows.emplace_back();
    for (std::istringstream words(line); words >> word;) row.push_back(token_id(word));
    if (row.empty()) throw Error("row " + std::to_string(rows.size()) + " is empty");
  }
  if (rows.empty()) throw Error("there are no rows on standard input");
  return rows;
}

inline torch::jit::Module load(const std::string& path) {
  std::error_code code;
  if (!std::filesystem::is_regular_file(path, code)) throw Error("there is no file " + path);
  try {
    return torch::jit::load(path, torch::kCPU);
  } catch (const std::exception& error) {
    throw Error(path + " is not a TorchScript module: " + sentence(error));
  }
}

// Names of a method's arguments, `self` first; none where the module has no such method.
inline std::vector<std::string> arguments(const torch::jit::Module& module, const char* method) {
  std::vector<std::string> names;
  if (const auto found = module.find_method(method))
    for (const auto& argument : found->function().getSchema().arguments())
      names.push_back(argument.name());
  return names;
}

struct Batch {
  torch::Tensor ids, mask;  // int64 [rows, longest row]
};

// Rows filled with `pad` to the longest of them, on the right or on the left, and masked there.
inline Batch padded(const std::vector<Row>& rows, int64_t pad, bool left) {
  int64_t length = 0;
  for (const Row& row : rows) length = std::max<int64_t>(length, row.size());
  const std::vector<int64_t> shape{static_cast<int64_t>(rows.size()), length};
  const Batch batch{torch::full(shape, pad, torch::kInt64), torch::zeros(shape, torch::kInt64)};
  for (size_t i = 0; i < rows.size(); ++i) {
    const int64_t size = rows[i].size(), start = left ? length - size : 0;
    batch.ids[i].slice(0, start, start + size).copy_(torch::tensor(rows[i]));
    batch.mask[i].slice(0, start, start + size).fill_(1);
  }
  return batch;
}

// Runs a program's body; its error is one line, and status 1.
template <class Body>
int run(const Body& body) try {
  const c10::InferenceMode guard;
  body();
  return 0;
} catch (const Error& error) {
  std::fprintf(stderr, "error: %s\n", error.what());
  return 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "error: %s\n", sentence(error).c_str());
  return 1;
}

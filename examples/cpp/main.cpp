// The logits of an artifact's traced_model.pt, without Python.
//
//   logits MODULE [--pad ID] [ID ...]
//
// The arguments are the token ids of one row. Without any, standard input has one row a line. Short
// rows are padded on the right, and masked there; `padding` in bundle.json has the model's pad id.
// The module must be exact at any length and number of rows (`dynamic_length` and `dynamic_batch`
// in bundle.json); then it takes rows of `min_length` to `max_length` ids, all of one length where
// bundle.json says `reads_padding`.

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
std::string sentence(const std::exception& error) {
  const auto* of_torch = dynamic_cast<const c10::Error*>(&error);
  std::string text = of_torch ? of_torch->what_without_backtrace() : error.what();
  text.erase(text.find_last_not_of(" \n") + 1);
  if (text.find("TorchScript interpreter") != text.npos) return text.substr(text.rfind('\n') + 1);
  return text.substr(0, std::min(text.find('\n'), text.find(". ")));
}

int64_t token_id(const std::string& word) {
  int64_t id = -1;
  const char* end = word.data() + word.size();
  const auto [stop, code] = std::from_chars(word.data(), end, id);
  if (code != std::errc() || stop != end || id < 0) throw Error("'" + word + "' is not a token id");
  return id;
}

// One row a line; at least one row, and none of them empty.
std::vector<Row> read_rows(std::istream& input) {
  std::vector<Row> rows;
  for (std::string line, word; std::getline(input, line);) {
    Row& row = rows.emplace_back();
    for (std::istringstream words(line); words >> word;) row.push_back(token_id(word));
    if (row.empty()) throw Error("row " + std::to_string(rows.size()) + " is empty");
  }
  if (rows.empty()) throw Error("there are no rows on standard input");
  return rows;
}

// A module whose `forward` takes what an artifact's does.
torch::jit::Module load(const std::string& path) {
  std::error_code code;
  if (!std::filesystem::is_regular_file(path, code)) throw Error("there is no file " + path);
  torch::jit::Module module;
  try {
    module = torch::jit::load(path, torch::kCPU);
  } catch (const std::exception& error) {
    throw Error(path + " is not a TorchScript module: " + sentence(error));
  }
  const std::vector<std::string> known{"self", "input_ids", "attention_mask", "token_type_ids"};
  std::vector<std::string> names;
  if (const auto forward = module.find_method("forward"))
    for (const auto& argument : forward->function().getSchema().arguments())
      names.push_back(argument.name());
  if (names != known && names != std::vector(known.begin(), known.end() - 1))
    throw Error(path + " has no forward(input_ids, attention_mask[, token_type_ids])");
  return module;
}

// Rows of logits, `[rows, labels]`, from int64 inputs `[rows, longest row]`.
torch::Tensor logits(torch::jit::Module& module, const std::vector<Row>& rows, int64_t pad) {
  int64_t length = 0;
  for (const Row& row : rows) length = std::max<int64_t>(length, row.size());
  const std::vector<int64_t> shape{static_cast<int64_t>(rows.size()), length};
  const auto ids = torch::full(shape, pad, torch::kInt64), mask = torch::zeros_like(ids);
  for (size_t i = 0; i < rows.size(); ++i) {
    ids[i].slice(0, 0, rows[i].size()).copy_(torch::tensor(rows[i]));
    mask[i].slice(0, 0, rows[i].size()).fill_(1);
  }
  std::vector<c10::IValue> inputs{ids, mask};
  if (module.get_method("forward").num_inputs() == 4) inputs.push_back(torch::zeros_like(ids));
  try {
    return module.forward(inputs).toTuple()->elements().at(0).toTensor().to(torch::kFloat64);
  } catch (const std::exception& error) {
    throw Error("forward failed on " + std::to_string(rows.size()) + " x " +
                std::to_string(length) + " ids: " + sentence(error));
  }
}

int main(int count, char** words) try {
  if (count < 2) throw Error("usage: logits MODULE [--pad ID] [ID ...]");
  int64_t pad = 0;
  Row given;
  for (int i = 2; i < count; ++i) {
    if (words[i] != std::string("--pad")) given.push_back(token_id(words[i]));
    else if (++i < count) pad = token_id(words[i]);
    else throw Error("--pad needs a token id");
  }
  const c10::InferenceMode guard;
  torch::jit::Module module = load(words[1]);
  const auto rows = given.empty() ? read_rows(std::cin) : std::vector<Row>{given};
  const torch::Tensor answers = logits(module, rows, pad);
  for (int64_t i = 0; i < answers.size(0); ++i)
    for (int64_t j = 0; j < answers.size(1); ++j)
      std::printf("%.9g%c", answers[i][j].item<double>(), j + 1 < answers.size(1) ? ' ' : '\n');
} catch (const Error& error) {
  std::fprintf(stderr, "error: %s\n", error.what());
  return 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "error: %s\n", sentence(error).c_str());
  return 1;
}

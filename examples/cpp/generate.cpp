// What an artifact's traced_model.pt writes, without Python: of the modes text_generation and
// text2text_generation.
//
//   generate MODULE [--NAME VALUE ...] [ID ...]
//
// The arguments are the token ids of one text. Without any, standard input has one text a line.
// Printed are the ids of each answer, without its text, up to what ended it. NAME is `seed`, which
// makes drawn answers the same each time, or an argument of the module's `generate` that is a
// number: max_new_tokens, do_sample (0 or 1), temperature, top_k, top_p, repetition_penalty. Those
// not given are the method's own, not the model's (`defaults` in bundle.json).

#include "common.h"

#include <map>

using Options = std::map<std::string, std::string>;

template <class Number>
Number number(const std::string& name, const std::string& word) {
  Number value{};
  const char* end = word.data() + word.size();
  const auto [stop, code] = std::from_chars(word.data(), end, value);
  if (code != std::errc() || stop != end)
    throw Error("--" + name + " cannot be '" + word + "'");
  return value;
}

// The options as `generate` takes them by name: each of the type that it declares.
torch::jit::Kwargs keywords(const torch::jit::Module& module, const Options& options, size_t rows) {
  torch::jit::Kwargs given;
  const auto method = module.get_method("generate");
  for (const auto& [name, word] : options) {
    if (name == "seed") {
      given["seeds"] = std::vector<int64_t>(rows, number<int64_t>(name, word));
      continue;
    }
    const auto& schema = method.function().getSchema();
    const auto index = schema.argumentIndexWithName(name);
    const auto kind = index ? schema.arguments()[*index].type()->kind() : c10::TypeKind::AnyType;
    if (kind == c10::TypeKind::IntType) given[name] = number<int64_t>(name, word);
    else if (kind == c10::TypeKind::FloatType) given[name] = number<double>(name, word);
    else if (kind == c10::TypeKind::BoolType && (word == "0" || word == "1"))
      given[name] = word == "1";
    else throw Error("generate takes no --" + name + " " + word);
  }
  return given;
}

// Ids of the answers, `[rows, tokens]`.
torch::Tensor answers(
    const torch::jit::Module& module, const std::vector<Row>& rows, const Options& options) {
  const bool decoder_only = module.attr("start_id").toInt() < 0;
  const Batch batch = padded(rows, module.attr("pad_id").toInt(), decoder_only);
  const auto given = keywords(module, options, rows.size());
  try {
    return module.get_method("generate")({batch.ids, batch.mask}, given).toTensor();
  } catch (const std::exception& error) {
    throw Error("generate failed on " + std::to_string(rows.size()) + " x " +
                std::to_string(batch.ids.size(1)) + " ids: " + sentence(error));
  }
}

// One answer a line, up to the first token that ends a text.
void print(const torch::Tensor& tokens, const std::vector<int64_t>& ends) {
  for (int64_t i = 0; i < tokens.size(0); ++i) {
    for (int64_t j = 0; j < tokens.size(1); ++j) {
      const int64_t id = tokens[i][j].item<int64_t>();
      std::printf(j ? " %ld" : "%ld", static_cast<long>(id));
      if (std::find(ends.begin(), ends.end(), id) != ends.end()) break;
    }
    std::printf("\n");
  }
}

int main(int count, char** words) {
  return run([&] {
    if (count < 2) throw Error("usage: generate MODULE [--NAME VALUE ...] [ID ...]");
    Options options;
    Row given;
    for (int i = 2; i < count; ++i) {
      const std::string word = words[i];
      if (word.rfind("--", 0) != 0) given.push_back(token_id(word));
      else if (++i < count) options[word.substr(2)] = words[i];
      else throw Error(word + " needs a value");
    }
    const torch::jit::Module module = load(words[1]);
    if (arguments(module, "generate").empty()) throw Error(std::string(words[1]) + " has no generate");
    const auto rows = given.empty() ? read_rows(std::cin) : std::vector<Row>{given};
    print(answers(module, rows, options), module.attr("eos_ids").toIntVector());
  });
}

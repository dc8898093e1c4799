// The logits of an artifact's traced_model.pt, without Python.
//
//   logits MODULE [--pad ID] [ID ...]
//
// The arguments are the token ids of one row. Without any, standard input has one row a line. Short
// rows are padded on the right, and masked there; `padding` in bundle.json has the model's pad id.
// The module must be exact at any length and number of rows (`dynamic_length` and `dynamic_batch`
// in bundle.json); then it takes rows of `min_length` to `max_length` ids, all of one length where
// bundle.json says `reads_padding`.

#include "common.h"

// A module whose `forward` takes what an artifact's does.
torch::jit::Module load_forward(const std::string& path) {
  torch::jit::Module module = load(path);
  const std::vector<std::string> known{"self", "input_ids", "attention_mask", "token_type_ids"};
  const auto names = arguments(module, "forward");
  if (names != known && names != std::vector(known.begin(), known.end() - 1))
    throw Error(path + " has no forward(input_ids, attention_mask[, token_type_ids])");
  return module;
}

// Rows of logits, `[rows, labels]`.
torch::Tensor logits(torch::jit::Module& module, const std::vector<Row>& rows, int64_t pad) {
  const Batch batch = padded(rows, pad, false);
  std::vector<c10::IValue> inputs{batch.ids, batch.mask};
  if (module.get_method("forward").num_inputs() == 4)
    inputs.push_back(torch::zeros_like(batch.ids));
  try {
    return module.forward(inputs).toTuple()->elements().at(0).toTensor().to(torch::kFloat64);
  } catch (const std::exception& error) {
    throw Error("forward failed on " + std::to_string(rows.size()) + " x " +
                std::to_string(batch.ids.size(1)) + " ids: " + sentence(error));
  }
}

int main(int count, char** words) {
  return run([&] {
    if (count < 2) throw Error("usage: logits MODULE [--pad ID] [ID ...]");
    int64_t pad = 0;
    Row given;
    for (int i = 2; i < count; ++i) {
      if (words[i] != std::string("--pad")) given.push_back(token_id(words[i]));
      else if (++i < count) pad = token_id(words[i]);
      else throw Error("--pad needs a token id");
    }
    torch::jit::Module module = load_forward(words[1]);
    const auto rows = given.empty() ? read_rows(std::cin) : std::vector<Row>{given};
    const torch::Tensor answers = logits(module, rows, pad);
    for (int64_t i = 0; i < answers.size(0); ++i)
      for (int64_t j = 0; j < answers.size(1); ++j)
        std::printf("%.9g%c", answers[i][j].item<double>(), j + 1 < answers.size(1) ? ' ' : '\n');
  });
}

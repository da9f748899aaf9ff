//! The top-level fields that operations have: what else comes is answered with 400, so that a control field that the gateway
//! forgot to remove is found.

use crate::simulator::options::Dialect;
use crate::simulator::paths::Operation;

/// What compatible servers take beyond OpenAI's fields.
const COMPAT_FIELDS: &str = "chat_template_kwargs guided_json ignore_eos keep_alive min_p min_tokens \
    options priority reasoning repetition_penalty stop_token_ids top_k";

/// Fields of `CreateBatch`.
const CREATE_BATCH_FIELDS: &str = "completion_window endpoint input_file_id metadata output_expires_after";

/// Fields of `Images`.
const IMAGES_FIELDS: &str = "prompt background model moderation n output_compression output_format partial_images quality \
    response_format size stream style user";

/// Fields of `Speech`.
const SPEECH_FIELDS: &str = "input model voice instructions response_format speed stream_format";

/// Fields of `Moderations`.
const MODERATIONS_FIELDS: &str = "input model";

/// Fields of `Responses`.
const RESPONSES_FIELDS: &str = "background conversation include input instructions max_output_tokens max_tool_calls metadata \
    model parallel_tool_calls previous_response_id prompt prompt_cache_key prompt_cache_retention \
    reasoning safety_identifier service_tier store stream stream_options temperature text \
    tool_choice tools top_logprobs top_p truncation user";

/// Fields of `Embeddings`.
const EMBEDDINGS_FIELDS: &str = "input model dimensions encoding_format user";

/// Fields of `Completions`.
const COMPLETIONS_FIELDS: &str = "model prompt best_of echo frequency_penalty logit_bias logprobs max_tokens n presence_penalty \
    seed stop stream stream_options suffix temperature top_p user";

/// Fields of `Chat`.
const CHAT_FIELDS: &str = "messages model audio frequency_penalty function_call functions logit_bias logprobs \
    max_completion_tokens max_tokens metadata modalities n parallel_tool_calls prediction \
    presence_penalty prompt_cache_key prompt_cache_retention reasoning_effort response_format \
    safety_identifier seed service_tier stop store stream stream_options temperature tool_choice \
    tools top_logprobs top_p user verbosity web_search_options";

/// The fields of an operation, as OpenAI's reference lists them; none where bodies are not checked.
pub(super) fn fields(operation: Operation) -> Option<&'static str> {
    match operation {
        Operation::Chat => Some(CHAT_FIELDS),
        Operation::Completions => Some(COMPLETIONS_FIELDS),
        Operation::Embeddings => Some(EMBEDDINGS_FIELDS),
        Operation::Responses => Some(RESPONSES_FIELDS),
        Operation::Moderations => Some(MODERATIONS_FIELDS),
        Operation::Speech => Some(SPEECH_FIELDS),
        Operation::Images => Some(IMAGES_FIELDS),
        Operation::CreateBatch => Some(CREATE_BATCH_FIELDS),
        Operation::Transcriptions
        | Operation::Models
        | Operation::Model
        | Operation::Response
        | Operation::DeleteResponse
        | Operation::Upload
        | Operation::Files
        | Operation::File
        | Operation::FileContent
        | Operation::DeleteFile
        | Operation::Batches
        | Operation::Batch
        | Operation::CancelBatch => None,
    }
}

/// Fields that a dialect has beyond OpenAI's.
pub(super) fn extra_fields(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::OpenAi => "",
        Dialect::Azure => "data_sources user_security_context",
        Dialect::Compat => COMPAT_FIELDS,
    }
}

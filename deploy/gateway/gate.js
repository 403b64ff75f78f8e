// What nginx's own directives cannot say: which model a message of gRPC asks, which refusals another Triton may improve
// on, and whether JSON is nested so much that it would end a Triton. Runs in nginx's JavaScript module (njs 0.7.9).

const FRAME_HEADER_BYTES = 5;  // one byte for compression, four for the length
const MALFORMED = 422;  // as in refusals.py
const TOO_LARGE = 413;
const MODEL_FIELD = 1;  // `model_name` of ModelInferRequest, `name` of the questions about a model
const VARINT_MAX_BYTES = 10;
const MIN_TAG = 8;  // of field 1; there is no field 0
const MAX_TAG = 0xffffffff;
const MAX_FIELDS = 1000;  // of a message; a few for each tensor. To look at millions would hold everybody up for seconds

// gRPC statuses that another replica may not share: NOT_FOUND (a version that is not there yet, or not any more),
// INTERNAL (a dead backend process) and UNAVAILABLE (a full queue, a server that is ending).
const PERHAPS_BETTER_ELSEWHERE = ['5', '13', '14'];

function refusal(status) {
    const error = new Error();
    error.status = status;
    return error;
}

// Passes a unary call on, after reading all of it: only then does nginx try another Triton when one fails.
function pass(r) {
    try {
        if (r.variables.asks_model === '1') {
            r.variables.model = allowedModel(modelOf(messageOf(r.requestBuffer)), r.variables.allowed_models);
        }
    } catch (error) {
        r.return(error.status || MALFORMED);
        return;
    }
    r.internalRedirect('@grpc_to_triton');
}

// Passes a request of JSON on if it cannot be nested too deeply: brackets are counted, in texts too, which is quick.
function passJson(r) {
    const most = Number(r.variables.max_brackets);
    let body;
    try {
        body = r.requestBuffer;
    } catch (error) {
        r.return(TOO_LARGE);  // so many small chunks that what they take is over the limit, though their sum is not
        return;
    }
    if (!body || brackets(body, 0x5b, most) + brackets(body, 0x7b, most) > most) {
        r.return(MALFORMED);
        return;
    }
    r.internalRedirect('@json_to_triton');
}

// How often a byte is in a body; stops at one more than the most that matters.
function brackets(body, byte, most) {
    let count = 0;
    for (let at = body.indexOf(byte); at >= 0 && count <= most; at = body.indexOf(byte, at + 1)) {
        count++;
    }
    return count;
}

// A refusal of Triton comes with HTTP status 200. 503 lets nginx try the next Triton, and is undone if none is better.
function judge(r) {
    const status = r.headersOut['grpc-status'];
    // What waited in one queue until its time was over does not wait in another one.
    const late = /timeout (expired|passed)/.test(String(r.headersOut['grpc-message']));  // Triton's words, and bert_text's
    if (PERHAPS_BETTER_ELSEWHERE.indexOf(status) >= 0 && !late) {
        r.status = 503;
    }
}

function messageOf(body) {
    if (!body || body.length < FRAME_HEADER_BYTES) {
        throw refusal(MALFORMED);
    }
    if (body[0] !== 0) {
        throw refusal(415);
    }
    // A unary call has one message: what follows another one's end would be read by nobody, or by somebody else.
    if (body.readUInt32BE(1) !== body.length - FRAME_HEADER_BYTES) {
        throw refusal(MALFORMED);
    }
    return body.subarray(FRAME_HEADER_BYTES);
}

// The string in field 1 of a protobuf message; the whole message is read, because a later occurrence replaces it.
function modelOf(message) {
    const cursor = {at: 0};
    let model = null;
    for (let fields = 0; cursor.at < message.length; fields++) {
        const tag = varint(message, cursor);
        // Triton's reader takes a tag modulo 2^32: of 2^32 + 10 it makes field 1.
        if (fields >= MAX_FIELDS || tag < MIN_TAG || tag > MAX_TAG) {
            throw refusal(MALFORMED);
        }
        const field = Math.floor(tag / 8);
        const type = tag % 8;
        const length = lengthOf(type, message, cursor);
        if (length > message.length - cursor.at) {
            throw refusal(MALFORMED);
        }
        if (field === MODEL_FIELD) {
            if (model !== null || type !== 2) {
                throw refusal(403);
            }
            model = message.subarray(cursor.at, cursor.at + length).toString();
        }
        cursor.at += length;
    }
    return model;
}

// The bytes of a field's value. Groups (types 3 and 4) are in no message of this protocol.
function lengthOf(type, message, cursor) {
    switch (type) {
    case 0:
        varint(message, cursor);
        return 0;
    case 1:
        return 8;
    case 2:
        return varint(message, cursor);
    case 5:
        return 4;
    }
    throw refusal(MALFORMED);
}

function varint(message, cursor) {
    let value = 0;
    let scale = 1;
    for (let count = 0; count < VARINT_MAX_BYTES && cursor.at < message.length; count++) {
        const byte = message[cursor.at++];
        value += (byte & 127) * scale;
        if (byte < 128) {
            return value;
        }
        scale *= 128;
    }
    throw refusal(MALFORMED);
}

function allowedModel(model, allowed) {
    if (model === null || allowed.split(' ').indexOf(model) < 0) {
        throw refusal(403);
    }
    return model;
}

export default {pass, passJson, judge};

import { run } from "./main.js";
import { Backend } from "./static_backend.js";

run(Backend);

import { run } from "./main.js";
import { Backend } from "./server_backend.js";

run(Backend);
